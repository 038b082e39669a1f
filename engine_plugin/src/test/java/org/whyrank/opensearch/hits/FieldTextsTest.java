package org.whyrank.opensearch.hits;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.Map;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.opensearch.common.document.DocumentField;
import org.opensearch.core.common.bytes.BytesArray;
import org.opensearch.search.SearchHit;
import org.whyrank.opensearch.request.Limits;

class FieldTextsTest {
    private static SearchHit hit(String source) {
        SearchHit hit = new SearchHit(1, "1", Map.of(), Map.of());
        return source == null ? hit : hit.sourceRef(new BytesArray(source));
    }

    @ParameterizedTest
    @CsvSource(
        quoteCharacter = '\0',
        delimiter = '|',
        value = {
            "{'t': 'a'}                              | t     | a",
            "{'t': ['a', ['b', null, ''], 'c']}      | t     | a,b,c",
            "{'o': {'t': 'a', 'u': 'b'}}             | o.t   | a",
            "{'o': [{'t': 'a'}, {'t': ['b', 'c']}]}  | o.t   | a,b,c",
            "{'o.t': 'a'}                            | o.t   | a",
            "{'o': {'p.t': 'a'}, 'o.p': {'t': 'b'}}  | o.p.t | a,b",
            "{'t': 1.10, 'u': 2}                     | t     | 1.10",
            "{'t': [1e400, true, false]}             | t     | 1e400,true,false",
            "{'t': 'x\\ud800y'}                      | t     | x\uFFFDy" }
    )
    void readsTheSource(String source, String path, String texts) {
        assertEquals(Map.of(path, List.of(texts.split(","))), FieldTexts.of(hit(source.replace('\'', '"')), List.of(path)));
    }

    @ParameterizedTest
    @CsvSource(
        quoteCharacter = '\0',
        delimiter = '|',
        value = { "{'t': {'u': 'a'}}", "{'t': null}", "{'t': ''}", "{'tt': 'a'}", "{'x': {'t': 'a'}}", "{\"t", "[1]", "{}" }
    )
    void findsNoneWhereThereIsNone(String source) {
        assertEquals(Map.of(), FieldTexts.of(hit(source.replace('\'', '"')), List.of("t")));
    }

    @Test
    void readsTheHitsFieldsWhereTheSourceHasNone() {
        SearchHit hit = hit("{\"title\": \"from the source\"}");
        hit.setDocumentField("title", new DocumentField("title", List.of("not this one")));
        hit.setDocumentField("body", new DocumentField("body", List.of("a", 2, true, Map.of("an", "object"))));
        Map<String, List<String>> texts = FieldTexts.of(hit, List.of("body", "title", "none"));
        assertEquals(Map.of("title", List.of("from the source"), "body", List.of("a", "2", "true")), texts);
        assertEquals(List.of("body", "title"), List.copyOf(texts.keySet()), "in the order asked for");
        assertEquals(Map.of(), FieldTexts.of(hit(null), List.of("title")));
    }

    @Test
    void givesNoMoreThanTheSidecarTakes() {
        String megabyte = "é".repeat(Limits.TEXT - 10);
        SearchHit hit = hit("{\"t\": [\"" + megabyte + "\", \"" + megabyte + "\", \"z\"]}");
        List<String> texts = FieldTexts.of(hit, List.of("t")).get("t");
        int joined = texts.stream().mapToInt(String::length).sum() + texts.size() - 1;
        assertEquals(true, joined <= Limits.TEXT, "joined: " + joined);
        assertEquals(2, texts.size());
    }
}
