package org.whyrank.opensearch.stats;

import java.util.List;

import org.opensearch.core.common.Strings;
import org.opensearch.rest.BaseRestHandler;
import org.opensearch.rest.RestRequest;
import org.opensearch.rest.action.RestActions.NodesResponseRestListener;
import org.opensearch.transport.client.node.NodeClient;

/** {@code GET /_plugins/_whyrank/stats}, of all nodes or of those named in the path. */
public final class RestStats extends BaseRestHandler {
    @Override
    public String getName() {
        return "whyrank_stats";
    }

    @Override
    public List<Route> routes() {
        return List.of(
            new Route(RestRequest.Method.GET, "/_plugins/_whyrank/stats"),
            new Route(RestRequest.Method.GET, "/_plugins/_whyrank/{nodeId}/stats")
        );
    }

    @Override
    protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
        StatsRequest asked = new StatsRequest(Strings.splitStringByCommaToArray(request.param("nodeId")));
        asked.timeout(request.param("timeout"));
        return channel -> client.execute(StatsAction.INSTANCE, asked, new NodesResponseRestListener<>(channel));
    }
}
