package org.whyrank.opensearch.stats;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

import org.opensearch.action.FailedNodeException;
import org.opensearch.action.support.ActionFilters;
import org.opensearch.action.support.nodes.TransportNodesAction;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.inject.Inject;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.threadpool.ThreadPool;
import org.opensearch.transport.TransportService;
import org.whyrank.opensearch.sidecar.SidecarClient;

/** Gathers the nodes' statistics. */
public final class TransportStatsAction extends TransportNodesAction<
    StatsRequest,
    StatsResponse,
    StatsRequest.OfNode,
    StatsResponse.OfNode> {

    private final Statistics statistics;
    private final SidecarClient client;

    @Inject
    public TransportStatsAction(
        ThreadPool pool,
        ClusterService cluster,
        TransportService transport,
        ActionFilters filters,
        Statistics statistics,
        SidecarClient client
    ) {
        super(
            StatsAction.NAME,
            pool,
            cluster,
            transport,
            filters,
            StatsRequest::new,
            StatsRequest.OfNode::new,
            ThreadPool.Names.MANAGEMENT,
            StatsResponse.OfNode.class
        );
        this.statistics = statistics;
        this.client = client;
    }

    @Override
    protected StatsResponse newResponse(StatsRequest request, List<StatsResponse.OfNode> nodes, List<FailedNodeException> failures) {
        return new StatsResponse(clusterService.getClusterName(), nodes, failures);
    }

    @Override
    protected StatsRequest.OfNode newNodeRequest(StatsRequest request) {
        return new StatsRequest.OfNode();
    }

    @Override
    protected StatsResponse.OfNode newNodeResponse(StreamInput in) throws IOException {
        return new StatsResponse.OfNode(in);
    }

    @Override
    protected StatsResponse.OfNode nodeOperation(StatsRequest.OfNode request) {
        Map<String, Object> counters = new TreeMap<>(statistics.snapshot());
        counters.putAll(client.snapshot());
        return new StatsResponse.OfNode(clusterService.localNode(), counters);
    }
}
