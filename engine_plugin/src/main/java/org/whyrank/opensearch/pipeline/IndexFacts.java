package org.whyrank.opensearch.pipeline;

import java.util.Arrays;
import java.util.List;
import java.util.Map;

import org.opensearch.action.search.SearchContextId;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.cluster.ClusterState;
import org.opensearch.cluster.metadata.IndexMetadata;
import org.opensearch.cluster.metadata.IndexNameExpressionResolver;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.settings.Settings;
import org.opensearch.core.common.io.stream.NamedWriteableRegistry;
import org.opensearch.core.index.Index;
import org.opensearch.core.index.shard.ShardId;
import org.opensearch.index.IndexSettings;
import org.opensearch.transport.RemoteClusterAware;

/** What the indices of a search allow: a search that is widened must not fail where the user's own would not. */
final class IndexFacts {
    /** Whether documents have a source that can be asked for. */
    enum Source {
        KEPT,
        /** By one of the indices, at least. */
        DISABLED,
        /** The indices are another cluster's, not known, or too many to look at. */
        UNKNOWN
    }

    /** Mappings are read for each search that hides its source; they may be long. */
    private static final int MOST_MAPPINGS = 8;

    private final List<IndexMetadata> indices;

    IndexFacts(List<IndexMetadata> indices) {
        this.indices = indices;
    }

    /** How many hits may be asked for. */
    int resultWindow() {
        return indices.stream()
            .mapToInt(index -> IndexSettings.MAX_RESULT_WINDOW_SETTING.get(index.getSettings()))
            .min()
            .orElse(IndexSettings.MAX_RESULT_WINDOW_SETTING.getDefault(Settings.EMPTY));
    }

    Source source() {
        if (indices.isEmpty() || indices.size() > MOST_MAPPINGS) {
            return Source.UNKNOWN;
        }
        return indices.stream().anyMatch(IndexFacts::hasNoSource) ? Source.DISABLED : Source.KEPT;
    }

    private static boolean hasNoSource(IndexMetadata index) {
        return index.mapping() != null
            && index.mapping().sourceAsMap().get("_source") instanceof Map<?, ?> source
            && "false".equals(String.valueOf(source.get("enabled")));
    }

    /** Where the indices of a search are looked up. */
    interface Lookup {
        IndexFacts of(SearchRequest request);
    }

    /** The cluster's state, as this node knows it. */
    record InCluster(ClusterService cluster, IndexNameExpressionResolver resolver, NamedWriteableRegistry registry) implements Lookup {
        @Override
        public IndexFacts of(SearchRequest request) {
            ClusterState state = cluster.state();
            try {
                List<Index> indices = request.pointInTimeBuilder() == null ? named(request, state) : pointInTime(request);
                return new IndexFacts(indices.stream().map(index -> state.metadata().getIndexSafe(index)).toList());
            } catch (RuntimeException e) {
                return new IndexFacts(List.of()); // an index that is missing or closed: the engine has the say
            }
        }

        private List<Index> named(SearchRequest request, ClusterState state) {
            boolean remote = Arrays.stream(request.indices())
                .anyMatch(name -> name.indexOf(RemoteClusterAware.REMOTE_CLUSTER_INDEX_SEPARATOR) >= 0);
            return remote ? List.of() : List.of(resolver.concreteIndices(state, request));
        }

        private List<Index> pointInTime(SearchRequest request) {
            SearchContextId id = SearchContextId.decode(registry, request.pointInTimeBuilder().getId());
            return id.shards().keySet().stream().map(ShardId::getIndex).distinct().toList();
        }
    }
}
