"""HTTP and nothing else: the proxy, the rerank APIs, rankings and health."""
