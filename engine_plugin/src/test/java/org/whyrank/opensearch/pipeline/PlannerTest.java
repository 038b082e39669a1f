package org.whyrank.opensearch.pipeline;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.io.IOException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.opensearch.Version;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.cluster.metadata.IndexMetadata;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.common.xcontent.LoggingDeprecationHandler;
import org.opensearch.common.xcontent.json.JsonXContent;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.index.query.QueryBuilders;
import org.opensearch.search.aggregations.AggregationBuilders;
import org.opensearch.search.builder.PointInTimeBuilder;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.sort.SortBuilders;
import org.opensearch.search.sort.SortOrder;
import org.whyrank.opensearch.pipeline.Decision.Bypass;
import org.whyrank.opensearch.pipeline.Decision.Plan;
import org.whyrank.opensearch.pipeline.Decision.Reason;
import org.whyrank.opensearch.request.Mode;
import org.whyrank.opensearch.request.SearchOptions;

class PlannerTest {
    private static final IndexFacts ANY = new IndexFacts(List.of());

    private static SearchSourceBuilder search() {
        return new SearchSourceBuilder().query(QueryBuilders.matchQuery("title", "red shoes"));
    }

    private static SearchSourceBuilder saying(String options) throws IOException {
        return saying(search(), options);
    }

    private static SearchSourceBuilder saying(SearchSourceBuilder search, String options) throws IOException {
        try (
            XContentParser parser = JsonXContent.jsonXContent.createParser(
                NamedXContentRegistry.EMPTY,
                LoggingDeprecationHandler.INSTANCE,
                options.replace('\'', '"')
            )
        ) {
            return search.ext(List.of(SearchOptions.fromXContent(parser)));
        }
    }

    private static ProcessorSettings settings(Object... more) {
        Map<String, Object> config = new HashMap<>(Map.of("url", "http://127.0.0.1", "fields", List.of("title"), "window", 20));
        for (int i = 0; i < more.length; i += 2) {
            config.put((String) more[i], more[i + 1]);
        }
        return ProcessorSettings.read(null, config);
    }

    private static Decision decide(SearchSourceBuilder search, Object... settings) throws IOException {
        return new Planner(new SearchRequest(new String[] { "docs" }, search), settings(settings)).widening(ANY);
    }

    private static Plan plan(SearchSourceBuilder search, Object... settings) throws IOException {
        return assertInstanceOf(Plan.class, decide(search, settings));
    }

    static Stream<Arguments> bypassed() throws IOException {
        return Stream.of(
            Arguments.of(saying("{'enabled': false}"), Reason.DISABLED_BY_REQUEST),
            Arguments.of(search().searchAfter(new Object[] { 1 }), Reason.SEARCH_AFTER),
            Arguments.of(search().sort("price"), Reason.SORTED_BY_FIELD),
            Arguments.of(search().sort(SortBuilders.scoreSort()).sort("price"), Reason.SORTED_BY_FIELD),
            Arguments.of(search().sort(SortBuilders.scoreSort().order(SortOrder.ASC)), Reason.SORTED_BY_FIELD),
            Arguments.of(
                search().sort(SortBuilders.scoreSort()).pointInTimeBuilder(new PointInTimeBuilder("pit")),
                Reason.SEARCH_AFTER
            ),
            Arguments.of(search().storedField("_none_"), Reason.WITHOUT_IDS),
            Arguments.of(search().size(0).aggregation(AggregationBuilders.terms("t").field("f")), Reason.AGGREGATIONS_ONLY),
            Arguments.of(search().size(0), Reason.SIZE_ZERO),
            Arguments.of(search().from(11).size(10), Reason.BEYOND_WINDOW),
            Arguments.of(search().size(Integer.MAX_VALUE).from(Integer.MAX_VALUE), Reason.BEYOND_WINDOW),
            Arguments.of(saying("{'window': 5}"), Reason.BEYOND_WINDOW),
            Arguments.of(new SearchSourceBuilder(), Reason.NO_QUERY_TEXT),
            Arguments.of(new SearchSourceBuilder().query(QueryBuilders.termQuery("status", "new")), Reason.NO_QUERY_TEXT)
        );
    }

    @ParameterizedTest
    @MethodSource("bypassed")
    void leavesAloneWhatTheProxyLeavesAlone(SearchSourceBuilder search, Reason reason) throws IOException {
        assertEquals(reason, assertInstanceOf(Bypass.class, decide(search)).reason());
    }

    @Test
    void leavesAScrollAlone() throws IOException {
        SearchRequest request = new SearchRequest(new String[] { "docs" }, search()).scroll(TimeValue.timeValueMinutes(1));
        assertEquals(Reason.SCROLL, ((Bypass) new Planner(request, settings()).widening(ANY)).reason());
        assertEquals(Reason.NO_QUERY_TEXT, ((Bypass) new Planner(new SearchRequest(), settings()).widening(ANY)).reason());
    }

    @Test
    void leavesAloneWhatTheAdminSwitchedOff() throws IOException {
        assertEquals(Reason.POLICY_DISABLED, ((Bypass) decide(search(), "enabled", false)).reason());
    }

    @Test
    void anotherTenantsPipelineIsNotForThisSearch() throws IOException {
        Decision decision = decide(saying("{'tenant': 'other'}"), "tenant", "acme");
        assertEquals(Reason.TENANT_FIXED, ((Bypass) decision).reason());
        assertEquals("acme", plan(saying("{'tenant': 'acme'}"), "tenant", "acme").tenant());
        assertEquals("acme", plan(search(), "tenant", "acme").tenant());
        assertEquals("mine", plan(saying("{'tenant': 'mine'}")).tenant());
    }

    @Test
    void takesWhatTheProcessorSaysUnlessTheSearchSaysOtherwise() throws IOException {
        Plan plan = plan(search().from(10).sort(SortBuilders.scoreSort()), "mode", "label", "deadline_ms", 50);
        assertEquals(List.of(10, 10, 20, 50), List.of(plan.from(), plan.size(), plan.window(), plan.deadlineMs()));
        assertEquals(Mode.LABEL, plan.mode());
        assertEquals("docs", plan.index());
        assertEquals(true, plan.explain());
        assertNull(plan.source());
        Plan other = plan(
            saying("{'window': 30, 'deadline_ms': 0, 'mode': 'reason', 'explain': false, 'ranking': 'r', 'user': 'u'}"),
            "mode",
            "label"
        );
        assertEquals(List.of(30, 0), List.of(other.window(), other.deadlineMs()));
        assertEquals(List.of(Mode.REASON, false, "r", "u"), List.of(other.mode(), other.explain(), other.ranking(), other.user()));
    }

    @Test
    void asksTheEngineForNoMoreThanItGives() throws IOException {
        Settings few = Settings.builder()
            .put("index.max_result_window", 15)
            .put(IndexMetadata.SETTING_VERSION_CREATED, Version.CURRENT)
            .put("index.number_of_shards", 1)
            .put("index.number_of_replicas", 0)
            .build();
        IndexFacts facts = new IndexFacts(List.of(IndexMetadata.builder("docs").settings(few).build()));
        assertEquals(15, ((Plan) new Planner(new SearchRequest(new String[] { "docs" }, search()), settings()).widening(facts)).window());
        Decision beyond = new Planner(new SearchRequest(new String[] { "docs" }, search().from(6)), settings()).widening(facts);
        assertEquals(Reason.BEYOND_WINDOW, ((Bypass) beyond).reason());
    }

    @Test
    void aSearchThatHasRunIsItsOwnWindow() throws IOException {
        SearchRequest request = new SearchRequest(new String[] { "a", "b" }, search().from(10).size(5).fetchSource(false));
        Plan plan = assertInstanceOf(Plan.class, new Planner(request, settings()).asItWas());
        assertEquals(List.of(0, 5), List.of(plan.from(), plan.size()));
        assertNull(plan.source(), "what was not fetched cannot be shown or hidden");
        assertEquals("a,b", plan.index());
    }

    @Test
    void findsTheUsersWords() throws IOException {
        assertEquals("red shoes", plan(search()).query());
        assertEquals("said outright", plan(saying("{'query': ' said outright '}")).query());
        assertEquals("red shoes", plan(saying("{'query': ' '}")).query());
        assertEquals("red shoes", plan(search(), "query_path", "ext.nobody").query());
        SearchSourceBuilder term = new SearchSourceBuilder().query(QueryBuilders.termQuery("words", "from here"));
        assertEquals("from here", plan(term, "query_path", "query.term.words.value").query());
        assertEquals("half \uFFFD", plan(saying("{'query': 'half \\ud800'}")).query());
    }

    @ParameterizedTest
    @CsvSource({ "a, 1", "b.c, 2", "d.e.f, 3", "g.1.h, 4", "g.9.h, ", "g.x, ", "b, ", "none, " })
    void findsWhatStandsAtAPath(String path, Integer found) {
        Map<String, Object> body = Map.of(
            "a",
            1,
            "b.c",
            2,
            "d",
            Map.of("e.f", 3),
            "g",
            List.of(Map.of(), Map.of("h", 4))
        );
        assertEquals(found, Planner.at(body, path));
    }
}
