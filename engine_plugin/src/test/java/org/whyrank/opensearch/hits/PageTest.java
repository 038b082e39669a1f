package org.whyrank.opensearch.hits;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

import org.apache.lucene.search.SortField;
import org.apache.lucene.search.TotalHits;
import org.junit.jupiter.api.Test;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.action.search.ShardSearchFailure;
import org.opensearch.common.io.stream.BytesStreamOutput;
import org.opensearch.core.common.io.stream.NamedWriteableAwareStreamInput;
import org.opensearch.core.common.io.stream.NamedWriteableRegistry;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.SearchHit;
import org.opensearch.search.SearchHits;
import org.opensearch.search.aggregations.InternalAggregations;
import org.opensearch.search.internal.InternalSearchResponse;
import org.opensearch.search.profile.SearchProfileShardResults;
import org.opensearch.search.suggest.Suggest;

class PageTest {
    private static final RankingSummary SUMMARY = new RankingSummary(Map.of("status", "complete", "judged", 2));

    private static SearchResponse answer(int count) {
        return answer(count, "scroll", null);
    }

    /** An answer that has all that an answer can have. */
    private static SearchResponse answer(int count, String scroll, String pit) {
        SearchHit[] hits = IntStream.range(0, count)
            .mapToObj(i -> new SearchHit(i, "id" + i, Map.of(), Map.of()))
            .toArray(SearchHit[]::new);
        Object[] collapsed = IntStream.range(0, count).mapToObj(i -> "group" + i).toArray();
        SortField[] sorts = { SortField.FIELD_SCORE };
        TotalHits total = new TotalHits(77, TotalHits.Relation.GREATER_THAN_OR_EQUAL_TO);
        InternalSearchResponse sections = new InternalSearchResponse(
            new SearchHits(hits, total, 9.5f, sorts, "group", collapsed),
            InternalAggregations.EMPTY,
            new Suggest(new ArrayList<>()),
            new SearchProfileShardResults(Map.of()),
            true,
            true,
            3,
            List.of(new RankingSummary(Map.of("of", "a remote cluster"))),
            List.of()
        );
        return new SearchResponse(
            sections,
            scroll,
            5,
            4,
            1,
            12,
            new SearchResponse.PhaseTook(Map.of("query", 3L)),
            new ShardSearchFailure[] { new ShardSearchFailure(new IOException("a shard")) },
            new SearchResponse.Clusters(2, 1, 1),
            pit
        );
    }

    private static List<String> ids(SearchResponse answer) {
        return Arrays.stream(answer.getHits().getHits()).map(SearchHit::getId).toList();
    }

    private static Object said(SearchResponse answer, int place, String name) {
        SearchHit hit = answer.getHits().getAt(place);
        return hit.field("whyrank." + name) == null ? null : hit.field("whyrank." + name).getValues();
    }

    @Test
    void cutsThePageFromTheNewOrder() {
        List<Map<String, Object>> entries = new ArrayList<>();
        entries.add(Map.of("label", 1, "quotes", List.of(Map.of("text", "q"))));
        entries.add(null);
        SearchResponse page = new Page(1, 2, null, true).of(answer(4), new int[] { 3, 1, 0, 2 }, entries, SUMMARY);
        assertEquals(List.of("id1", "id0"), ids(page));
        assertArrayEquals(new Object[] { "group1", "group0" }, page.getHits().getCollapseValues());
        assertEquals(List.of(2), said(page, 0, "engine_rank"));
        assertNull(said(page, 0, "label"));
        assertEquals(List.of(1), said(page, 1, "label"));
        assertEquals(List.of(Map.of("text", "q")), said(page, 1, "quotes"));
    }

    @Test
    void everythingElseStays() {
        SearchResponse was = answer(3);
        SearchResponse page = new Page(0, 3, null, true).of(was, new int[] { 2, 1, 0 }, List.of(), SUMMARY);
        assertSame(was.getHits().getTotalHits(), page.getHits().getTotalHits());
        assertEquals(9.5f, page.getHits().getMaxScore());
        assertSame(was.getHits().getSortFields(), page.getHits().getSortFields());
        assertEquals("group", page.getHits().getCollapseField());
        assertSame(was.getAggregations(), page.getAggregations());
        assertSame(was.getSuggest(), page.getSuggest());
        assertEquals(true, page.isTimedOut());
        assertEquals(true, page.isTerminatedEarly());
        assertEquals(3, page.getNumReducePhases());
        assertEquals("scroll", page.getScrollId());
        assertEquals("pit", Page.untouched(answer(1, null, "pit"), SUMMARY, false).pointInTimeId());
        assertEquals(List.of(5, 4, 1), List.of(page.getTotalShards(), page.getSuccessfulShards(), page.getSkippedShards()));
        assertEquals(12, page.getTook().millis());
        assertSame(was.getPhaseTook(), page.getPhaseTook());
        assertSame(was.getShardFailures(), page.getShardFailures());
        assertSame(was.getClusters(), page.getClusters());
        assertEquals(List.of(SUMMARY), page.getInternalResponse().getSearchExtBuilders());
        assertEquals(true, page.toString().contains("\"profile\":{\"shards\":[]}"), "an empty profile is a profile");
    }

    @Test
    void anAnswerThatIsLeftAloneKeepsItsHits() {
        SearchResponse was = answer(3);
        SearchResponse answer = Page.untouched(was, SUMMARY, false);
        assertSame(was.getHits(), answer.getHits());
        assertEquals(List.of(SUMMARY), answer.getInternalResponse().getSearchExtBuilders());
    }

    @Test
    void aPageBeyondTheHitsIsEmpty() {
        assertEquals(List.of(), ids(new Page(5, 10, null, false).of(answer(3), new int[] { 0, 1, 2 }, List.of(), SUMMARY)));
        assertEquals(
            List.of("id2"),
            ids(new Page(2, Integer.MAX_VALUE, null, false).of(answer(3), new int[] { 0, 1, 2 }, List.of(), SUMMARY))
        );
    }

    @Test
    void theSummarySurvivesTheWire() throws IOException {
        NamedWriteableRegistry registry = new NamedWriteableRegistry(
            List.of(new NamedWriteableRegistry.Entry(SearchExtBuilder.class, RankingSummary.NAME, RankingSummary::new))
        );
        try (BytesStreamOutput out = new BytesStreamOutput()) {
            out.writeNamedWriteable(SUMMARY);
            SearchExtBuilder read = new NamedWriteableAwareStreamInput(out.bytes().streamInput(), registry).readNamedWriteable(
                SearchExtBuilder.class
            );
            assertNotNull(read);
            assertEquals(SUMMARY, read);
        }
    }
}
