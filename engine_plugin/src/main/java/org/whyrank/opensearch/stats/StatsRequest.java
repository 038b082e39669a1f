package org.whyrank.opensearch.stats;

import java.io.IOException;

import org.opensearch.action.support.nodes.BaseNodesRequest;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.transport.TransportRequest;

/** Asks the nodes named for their statistics; all nodes where none is named. */
public final class StatsRequest extends BaseNodesRequest<StatsRequest> {
    public StatsRequest(String... nodes) {
        super(nodes);
    }

    public StatsRequest(StreamInput in) throws IOException {
        super(in);
    }

    /** What each node is asked. */
    public static final class OfNode extends TransportRequest {
        public OfNode() {}

        public OfNode(StreamInput in) throws IOException {
            super(in);
        }
    }
}
