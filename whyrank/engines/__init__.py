"""OpenSearch and Elasticsearch behind one Protocol."""
