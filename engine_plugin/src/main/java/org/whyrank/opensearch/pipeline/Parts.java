package org.whyrank.opensearch.pipeline;

import java.util.function.BooleanSupplier;

import org.opensearch.cluster.metadata.IndexNameExpressionResolver;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.core.common.io.stream.NamedWriteableRegistry;
import org.opensearch.threadpool.ThreadPool;
import org.whyrank.opensearch.NodeSettings;
import org.whyrank.opensearch.sidecar.SidecarClient;
import org.whyrank.opensearch.stats.Statistics;

/**
 * What all processors of a node share.
 *
 * @param enabled the cluster's switch, as it is now
 */
public record Parts(
    NodeSettings settings,
    ThreadPool pool,
    SidecarClient client,
    Statistics statistics,
    IndexFacts.Lookup indices,
    BooleanSupplier enabled
) {
    public Parts(
        NodeSettings settings,
        ThreadPool pool,
        SidecarClient client,
        Statistics statistics,
        ClusterService cluster,
        IndexNameExpressionResolver resolver,
        NamedWriteableRegistry registry
    ) {
        this(
            settings,
            pool,
            client,
            statistics,
            new IndexFacts.InCluster(cluster, resolver, registry),
            () -> cluster.getClusterSettings().get(NodeSettings.ENABLED)
        );
    }
}
