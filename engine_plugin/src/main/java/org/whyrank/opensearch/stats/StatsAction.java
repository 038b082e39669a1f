package org.whyrank.opensearch.stats;

import org.opensearch.action.ActionType;

/** Statistics of all nodes, or of some. */
public final class StatsAction extends ActionType<StatsResponse> {
    public static final StatsAction INSTANCE = new StatsAction();
    /** Of the cluster's monitoring actions, for those who grant rights by their names. */
    public static final String NAME = "cluster:monitor/whyrank/stats";

    private StatsAction() {
        super(NAME, StatsResponse::new);
    }
}
