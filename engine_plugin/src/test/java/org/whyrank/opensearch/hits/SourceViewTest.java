package org.whyrank.opensearch.hits;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.opensearch.core.common.bytes.BytesArray;
import org.opensearch.script.Script;
import org.opensearch.search.SearchHit;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.fetch.subphase.FetchSourceContext;

class SourceViewTest {
    private static final List<String> FIELDS = List.of("title", "o.body");

    private static SearchSourceBuilder search() {
        return new SearchSourceBuilder();
    }

    private static SearchSourceBuilder filtered(String[] includes, String... excludes) {
        return search().fetchSource(includes, excludes);
    }

    static Stream<SearchSourceBuilder> showing() {
        return Stream.of(
            search(),
            search().fetchSource(true),
            filtered(new String[] { "title", "o" }),
            filtered(new String[] { "*" }),
            filtered(new String[] { "t*", "o.*" }),
            filtered(new String[0], "other"),
            search().fetchSource(false).fetchField("title").docValueField("o.*"),
            search().storedFields(List.of("title", "o.body")),
            search().storedFields(List.of("_source"))
        );
    }

    static Stream<SearchSourceBuilder> hiding() {
        return Stream.of(
            search().fetchSource(false),
            filtered(new String[] { "title" }),
            filtered(new String[0], "o"),
            filtered(new String[] { "*" }, "titl*"),
            search().fetchSource(false).fetchField("title"),
            search().storedField("other"),
            search().scriptField("s", new Script("1"))
        );
    }

    @ParameterizedTest
    @MethodSource("showing")
    void thereIsNoneWhereAllIsShown(SearchSourceBuilder search) {
        assertNull(SourceView.hiding(FIELDS, search));
    }

    @ParameterizedTest
    @MethodSource("hiding")
    void whatIsFetchedHasTheFields(SearchSourceBuilder search) {
        SourceView view = SourceView.hiding(FIELDS, search);
        for (boolean filtered : new boolean[] { true, false }) {
            search.fetchSource(view.widened(FIELDS, filtered));
            assertNull(SourceView.hiding(FIELDS, search));
        }
    }

    static Stream<Arguments> restored() {
        return Stream.of(
            Arguments.of(filtered(new String[] { "title" }), "{\"title\":\"a\"}"),
            Arguments.of(filtered(new String[0], "o"), "{\"title\":\"a\"}"),
            Arguments.of(filtered(new String[] { "none" }), "{}"),
            Arguments.of(filtered(new String[] { "o.x" }), "{\"o\":{\"x\":1}}")
        );
    }

    @ParameterizedTest
    @MethodSource("restored")
    void whatWasNotAskedForIsTakenAway(SearchSourceBuilder search, String left) {
        SearchHit hit = hit("{\"title\":\"a\",\"o\":{\"body\":\"b\",\"x\":1}}");
        SourceView.hiding(FIELDS, search).restore(hit);
        assertEquals(left, hit.getSourceAsString());
    }

    @Test
    void noSourceIsLeftWhereNoneWasAskedFor() {
        SearchHit hit = hit("{\"title\":\"a\"}");
        SourceView view = SourceView.hiding(FIELDS, search().fetchSource(false));
        view.restore(hit);
        assertFalse(hit.hasSource());
        view.restore(hit);
        FetchSourceContext fetched = view.widened(FIELDS, true);
        assertArrayEquals(new String[] { "title", "o.body" }, fetched.includes());
    }

    @Test
    void ratherShowsNothingThanTooMuch() {
        SearchHit hit = hit("{\"title\":\"a\",");
        SourceView.hiding(FIELDS, filtered(new String[] { "title" })).restore(hit);
        assertFalse(hit.hasSource());
    }

    private static SearchHit hit(String source) {
        return new SearchHit(1, "1", Map.of(), Map.of()).sourceRef(new BytesArray(source));
    }
}
