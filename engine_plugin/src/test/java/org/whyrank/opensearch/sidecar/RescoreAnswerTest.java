package org.whyrank.opensearch.sidecar;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class RescoreAnswerTest {
    private static RescoreAnswer read(String json, int count) throws WrongAnswerException {
        return RescoreAnswer.read(json.getBytes(StandardCharsets.UTF_8), count);
    }

    @Test
    void readsAnAnswer() throws WrongAnswerException {
        RescoreAnswer answer = read(
            """
                {"status": "partial", "reason": "deadline: 1 of 2", "ranking_id": "r", "model_revision": "m", "judged": 1,
                 "order": [1, 0], "new": {"in": "a later version"},
                 "hits": [null, {"score": 1, "relevance": 0.5, "label": 2, "grounded": true, "explanation": "so \\ud800",
                                 "quotes": [{"text": "a", "start": 0, "end": 1}], "unknown": 7}]}""",
            2
        );
        assertArrayEquals(new int[] { 1, 0 }, answer.order());
        assertNull(answer.hits().get(0));
        Map<String, Object> hit = answer.hits().get(1);
        assertEquals(1.0, hit.get("score"), "numbers are floats, always");
        assertEquals("so \uFFFD", hit.get("explanation"), "what UTF-8 cannot hold would fail the search");
        assertEquals(List.of(Map.of("text", "a", "start", 0, "end", 1)), hit.get("quotes"));
        assertEquals(List.of("score", "relevance", "label", "grounded", "explanation", "quotes"), List.copyOf(hit.keySet()));
        assertEquals("partial", answer.status());
        assertEquals(1, answer.summary().get("judged"));
    }

    @ParameterizedTest
    @ValueSource(
        strings = {
            "",
            "<html>",
            "[]",
            "{\"status\": \"complete\", \"order\": [0, 1]",
            "{\"status\": \"complete\", \"order\": [0, 1]}",
            "{\"status\": \"complete\", \"order\": [0], \"hits\": [null, null]}",
            "{\"status\": \"complete\", \"order\": [0, 0], \"hits\": [null, null]}",
            "{\"status\": \"complete\", \"order\": [0, 2], \"hits\": [null, null]}",
            "{\"status\": \"complete\", \"order\": [0, -1], \"hits\": [null, null]}",
            "{\"status\": \"complete\", \"order\": [0, \"1\"], \"hits\": [null, null]}",
            "{\"status\": \"complete\", \"order\": [0, 1, 2], \"hits\": [null, null]}",
            "{\"status\": \"complete\", \"order\": [0, 1], \"hits\": [null]}",
            "{\"status\": \"complete\", \"order\": [0, 1], \"hits\": [null, 7]}",
            "{\"status\": \"complete\", \"order\": [0, 1], \"hits\": [null, {\"label\": \"2\"}]}",
            "{\"status\": \"complete\", \"order\": [0, 1], \"hits\": [null, {\"score\": 1e999}]}",
            "{\"status\": \"complete\", \"order\": [0, 1], \"hits\": [null, {\"quotes\": [null]}]}",
            "{\"status\": \"complete\", \"order\": [0, 1], \"hits\": [null, {\"explanation\": [\"x\"]}]}",
            "{\"status\": \"great\", \"order\": [0, 1], \"hits\": [null, null]}",
            "{\"order\": [0, 1], \"hits\": [null, null]}",
            "{\"status\": \"complete\", \"reason\": {}, \"order\": [0, 1], \"hits\": [null, null]}" }
    )
    void refusesWhatIsNone(String json) {
        assertThrows(WrongAnswerException.class, () -> read(json, 2));
    }
}
