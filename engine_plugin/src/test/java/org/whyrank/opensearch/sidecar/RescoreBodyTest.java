package org.whyrank.opensearch.sidecar;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

import org.junit.jupiter.api.Test;
import org.opensearch.core.common.bytes.BytesArray;
import org.opensearch.search.SearchHit;

class RescoreBodyTest {
    private static SearchHit hit(int id, String source, float score) {
        SearchHit hit = new SearchHit(id, String.valueOf(id), Map.of(), Map.of());
        hit.sourceRef(new BytesArray(source));
        hit.score(score);
        return hit;
    }

    private static Map<String, Object> about() {
        Map<String, Object> about = new LinkedHashMap<>();
        about.put("query", "the user's words");
        about.put("mode", null);
        about.put("fields", List.of("title"));
        about.put("explain", true);
        return about;
    }

    @Test
    void saysWhatIsKnownAndTheTextsOfEachHit() throws IOException {
        SearchHit[] hits = { hit(1, "{\"title\": \"a\"}", 2.5f), hit(2, "{\"title\": [\"b\", \"c\"]}", Float.NaN) };
        RescoreBody body = RescoreBody.of(about(), hits, List.of("title", "body"), 10_000);
        assertEquals(
            "{\"query\":\"the user's words\",\"fields\":[\"title\"],\"explain\":true,\"hits\":["
                + "{\"id\":\"1\",\"score\":2.5,\"fields\":{\"title\":\"a\"}},{\"id\":\"2\",\"fields\":{\"title\":[\"b\",\"c\"]}}]}",
            new String(body.bytes(), StandardCharsets.UTF_8)
        );
        assertEquals(2, body.hits());
    }

    @Test
    void endsBeforeTheFirstHitThatDoesNotFit() throws IOException {
        String long1 = "{\"title\": \"" + "\\u0001é\\\"語".repeat(300) + "\"}";
        SearchHit[] hits = new SearchHit[10];
        Arrays.setAll(hits, i -> hit(i, long1, 1));
        RescoreBody body = RescoreBody.of(about(), hits, List.of("title"), 12_000);
        assertTrue(body.hits() > 0 && body.hits() < 10, "some fit: " + body.hits());
        assertTrue(body.bytes().length <= 12_000, "never more bytes than allowed: " + body.bytes().length);
        assertEquals(0, RescoreBody.of(about(), hits, List.of("title"), 1_000).hits());
    }
}
