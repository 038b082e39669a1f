package org.whyrank.opensearch.request;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.json.JsonXContent;

/** That the rules are the proxy's is tested on the real engine (tests/integration/test_engine_plugin_words.py). */
class UserWordsTest {
    private static String words(String json) {
        return UserWords.in(XContentHelper.convertToMap(JsonXContent.jsonXContent, json, true));
    }

    @ParameterizedTest
    @CsvSource(
        quoteCharacter = '\0',
        delimiter = '|',
        value = {
            "{'match': {'title': {'query': 'red  shoes'}}}                                             | red shoes",
            "{'multi_match': {'query': 'red shoes', 'fields': ['title', 'body']}}                      | red shoes",
            "{'match_phrase': {'title': 'red shoes'}}                                                  | red shoes",
            "{'bool': {'should': [{'match': {'t': 'Shoes'}}, {'match': {'t': 'red shoes'}}]}}          | red shoes",
            "{'bool': {'must': [{'match': {'t': 'a'}}], 'must_not': [{'match': {'t': 'b'}}]}}          | a",
            "{'bool': {'must': {'match_all': {}}, 'filter': [{'match': {'t': 'a'}}]}}                  | a",
            "{'bool': {'must': [{'match': {'t': 'a'}}], 'filter': [{'match': {'t': 'b'}}]}}            | a",
            "{'constant_score': {'filter': {'match': {'t': 'a'}}}}                                     | a",
            "{'dis_max': {'queries': [{'match': {'t': 'a'}}, {'match': {'t': 'b'}}]}}                  | a b",
            "{'function_score': {'query': {'match': {'t': 'a'}}, 'functions': []}}                     | a",
            "{'nested': {'path': 'x', 'query': {'match': {'x.t': 'a'}}}}                               | a",
            "{'boosting': {'positive': {'match': {'t': 'a'}}, 'negative': {'match': {'t': 'b'}}}}      | a",
            "{'intervals': {'t': {'all_of': {'intervals': [{'match': {'query': 'a'}}, {'any_of': "
                + "{'intervals': [{'match': {'query': 'b'}}]}}]}}}}                                    | a b",
            "{'neural': {'v': {'query_text': 'a', 'model_id': 'm'}}}                                   | a",
            "{'hybrid': {'queries': [{'match': {'t': 'a'}}, {'neural': {'v': {'query_text': 'a'}}}]}}  | a",
            "{'more_like_this': {'fields': ['t'], 'like': ['a', {'_id': '1'}]}}                        | a",
            "{'query_string': {'query': 'title:(red OR blue) -green'}}                                 | red blue",
            "{'simple_query_string': {'query': 'red + blue -green'}}                                   | red blue" }
    )
    void findsThem(String json, String words) {
        assertEquals(words, words(json.replace('\'', '"')));
    }

    @ParameterizedTest
    @CsvSource(
        quoteCharacter = '\0',
        delimiter = '|',
        value = {
            "{'match_all': {}}",
            "{'term': {'status': {'value': 'published'}}}",
            "{'prefix': {'t': {'value': 'a'}}}",
            "{'ids': {'values': ['1']}}",
            "{'match': {'t': {'query': 7}}}",
            "{'bool': {'must_not': [{'match': {'t': 'a'}}]}}" }
    )
    void findsNoneWhereNobodySaidAnything(String json) {
        assertNull(words(json.replace('\'', '"')));
    }

    @Test
    void readsAnyDepth() {
        Object query = Map.of("match", Map.of("t", "deep"));
        for (int i = 0; i < 100_000; i++) {
            query = Map.of("bool", Map.of("must", List.of(query)));
        }
        assertEquals("deep", UserWords.in(query));
    }

    @Test
    void keepsSixtyFourTextsAtMost() {
        List<Object> clauses = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            clauses.add(Map.of("match", Map.of("t", "w" + i)));
        }
        assertEquals(64, UserWords.in(Map.of("bool", Map.of("should", clauses))).split(" ").length);
    }
}
