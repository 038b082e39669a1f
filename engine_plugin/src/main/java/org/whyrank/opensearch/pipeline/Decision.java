package org.whyrank.opensearch.pipeline;

import java.util.Locale;

import org.whyrank.opensearch.hits.SourceView;
import org.whyrank.opensearch.request.Mode;

/** What becomes of one search. */
public sealed interface Decision {
    /** Why a search is not reranked: the proxy's codes for the proxy's cases, and a few of the hook's own. */
    enum Reason {
        DISABLED_BY_REQUEST,
        POLICY_DISABLED,
        SCROLL,
        SEARCH_AFTER,
        SORTED_BY_FIELD,
        WITHOUT_IDS,
        AGGREGATIONS_ONLY,
        SIZE_ZERO,
        BEYOND_WINDOW,
        NO_QUERY_TEXT,
        /** The node's owner does not let searches be sent to the pipeline's sidecar. */
        URL_NOT_ALLOWED,
        /** The search names another tenant than its pipeline. */
        TENANT_FIXED,
        /** The engine refused the search once, widened, and is asked for what the user asked. */
        ENGINE_REFUSED,
        /** A fault of ours while the search was planned. */
        INTERNAL_ERROR;

        /** As answers and counters have it. */
        public String code() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /** The search goes its way as it is. */
    record Bypass(Reason reason, String detail) implements Decision {
        String text() {
            return reason.code() + ": " + detail;
        }
    }

    /**
     * The search is reranked.
     *
     * @param query      the user's words
     * @param index      what the search addressed; null where it names no index
     * @param from       where the user's page begins in the window; 0 where the window is the page
     * @param size       how many hits the page has at most
     * @param window     how many of the first hits are candidates
     * @param mode       null: the sidecar's policy decides
     * @param ranking    the ranking whose order is wanted; null for a new one
     * @param source     how `_source` is brought back to what the user asked for; null where it is that
     * @param settings   of the processor
     */
    record Plan(
        String query,
        String index,
        int from,
        int size,
        int window,
        int deadlineMs,
        Mode mode,
        String ranking,
        boolean explain,
        String tenant,
        String user,
        SourceView source,
        ProcessorSettings settings
    ) implements Decision {}
}
