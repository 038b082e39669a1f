package org.whyrank.opensearch.stats;

import java.io.IOException;
import java.util.List;
import java.util.Map;

import org.opensearch.action.FailedNodeException;
import org.opensearch.action.support.nodes.BaseNodeResponse;
import org.opensearch.action.support.nodes.BaseNodesResponse;
import org.opensearch.cluster.ClusterName;
import org.opensearch.cluster.node.DiscoveryNode;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.ToXContentFragment;
import org.opensearch.core.xcontent.XContentBuilder;

/** The nodes' statistics, by node id. */
public final class StatsResponse extends BaseNodesResponse<StatsResponse.OfNode> implements ToXContentFragment {
    public StatsResponse(StreamInput in) throws IOException {
        super(in);
    }

    public StatsResponse(ClusterName cluster, List<OfNode> nodes, List<FailedNodeException> failures) {
        super(cluster, nodes, failures);
    }

    @Override
    protected List<OfNode> readNodesFrom(StreamInput in) throws IOException {
        return in.readList(OfNode::new);
    }

    @Override
    protected void writeNodesTo(StreamOutput out, List<OfNode> nodes) throws IOException {
        out.writeList(nodes);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        builder.startObject("nodes");
        for (OfNode node : getNodes()) {
            builder.startObject(node.getNode().getId()).field("name", node.getNode().getName());
            for (Map.Entry<String, Object> counted : node.counters.entrySet()) {
                builder.field(counted.getKey(), counted.getValue());
            }
            builder.endObject();
        }
        return builder.endObject();
    }

    /** What one node has counted. */
    public static final class OfNode extends BaseNodeResponse {
        private final Map<String, Object> counters;

        public OfNode(DiscoveryNode node, Map<String, Object> counters) {
            super(node);
            this.counters = counters;
        }

        public OfNode(StreamInput in) throws IOException {
            super(in);
            counters = in.readMap();
        }

        @Override
        public void writeTo(StreamOutput out) throws IOException {
            super.writeTo(out);
            out.writeMap(counters);
        }
    }
}
