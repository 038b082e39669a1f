package org.whyrank.opensearch.hits;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

import org.opensearch.action.search.SearchResponse;
import org.opensearch.action.search.SearchResponseSections;
import org.opensearch.common.document.DocumentField;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.SearchHit;
import org.opensearch.search.SearchHits;
import org.opensearch.search.aggregations.InternalAggregations;
import org.opensearch.search.internal.InternalSearchResponse;
import org.opensearch.search.profile.SearchProfileShardResults;

/**
 * The part of an answer that the user asked for, in a new order, with what is known of each hit.
 *
 * <p>Only hits, their {@code fields} and {@code ext.whyrank} are touched; everything else of the answer stays.
 */
public final class Page {
    private static final String PREFIX = "whyrank.";

    private final int from;
    private final int size;
    private final SourceView source;
    private final boolean profiled;

    /**
     * {@code source} is null where hits keep the source that they have; {@code profiled}: the request asked for a
     * profile, which is part of the answer then, even when it is empty.
     */
    public Page(int from, int size, SourceView source, boolean profiled) {
        this.from = from;
        this.size = size;
        this.source = source;
        this.profiled = profiled;
    }

    /** The order that says nothing: the engine's. */
    public static int[] engineOrder(int hits) {
        return IntStream.range(0, hits).toArray();
    }

    /**
     * The page of an answer.
     *
     * @param order   engine positions of all hits of the answer, best first
     * @param entries what to say of the hits, by engine position; shorter than the hits, or with nulls, where nothing is
     */
    public SearchResponse of(SearchResponse answer, int[] order, List<Map<String, Object>> entries, RankingSummary summary) {
        SearchHits all = answer.getHits();
        int end = (int) Math.min(order.length, (long) from + size);
        List<SearchHit> hits = new ArrayList<>();
        List<Object> collapsed = new ArrayList<>();
        for (int place = Math.min(from, end); place < end; place++) {
            int position = order[place];
            SearchHit hit = all.getHits()[position];
            if (source != null) {
                source.restore(hit);
            }
            say(hit, "engine_rank", position + 1);
            if (position < entries.size() && entries.get(position) != null) {
                entries.get(position).forEach((name, value) -> say(hit, name, value));
            }
            hits.add(hit);
            if (all.getCollapseValues() != null && position < all.getCollapseValues().length) {
                collapsed.add(all.getCollapseValues()[position]);
            }
        }
        SearchHits page = new SearchHits(
            hits.toArray(SearchHit[]::new),
            all.getTotalHits(),
            all.getMaxScore(),
            all.getSortFields(),
            all.getCollapseField(),
            all.getCollapseValues() == null ? null : collapsed.toArray()
        );
        return with(answer, page, summary);
    }

    /** The answer as it is, but for what is said of the search. */
    public static SearchResponse untouched(SearchResponse answer, RankingSummary summary, boolean profiled) {
        return new Page(0, 0, null, profiled).with(answer, answer.getHits(), summary);
    }

    private static void say(SearchHit hit, String name, Object value) {
        List<Object> values = value instanceof List<?> list ? List.copyOf(list) : List.of(value);
        hit.setDocumentField(PREFIX + name, new DocumentField(PREFIX + name, values));
    }

    private SearchResponse with(SearchResponse answer, SearchHits hits, RankingSummary summary) {
        List<SearchExtBuilder> ext = new ArrayList<>(answer.getInternalResponse().getSearchExtBuilders());
        ext.removeIf(RankingSummary.class::isInstance);
        ext.add(summary);
        SearchResponseSections sections = sections(answer, hits, ext);
        return new SearchResponse(
            sections,
            answer.getScrollId(),
            answer.getTotalShards(),
            answer.getSuccessfulShards(),
            answer.getSkippedShards(),
            answer.getTook().millis(),
            answer.getPhaseTook(),
            answer.getShardFailures(),
            answer.getClusters(),
            answer.pointInTimeId()
        );
    }

    private SearchResponseSections sections(SearchResponse answer, SearchHits hits, List<SearchExtBuilder> ext) {
        SearchResponseSections was = answer.getInternalResponse();
        boolean hasProfile = profiled || answer.getProfileResults().isEmpty() == false;
        return new InternalSearchResponse(
            hits,
            (InternalAggregations) was.aggregations(),
            was.suggest(),
            hasProfile ? new SearchProfileShardResults(answer.getProfileResults()) : null,
            was.timedOut(),
            was.terminatedEarly(),
            was.getNumReducePhases(),
            ext,
            was.getProcessorResult()
        );
    }
}
