package org.whyrank.opensearch.sidecar;

import java.io.IOException;
import java.util.List;
import java.util.Map;

import org.opensearch.common.xcontent.json.JsonXContent;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.search.SearchHit;
import org.whyrank.opensearch.hits.FieldTexts;

/**
 * The body of {@code POST /v1/rescore}.
 *
 * @param bytes JSON
 * @param hits  how many of the candidates are in it: the first ones that fit
 */
public record RescoreBody(byte[] bytes, int hits) {
    /** For the members of a hit that are no text, its braces and commas. */
    private static final int HIT_OVERHEAD = 128;

    /**
     * Writes what says how to rank ({@code about}: name to text, number or list, null where it is not said), then hits
     * until {@code mostBytes}.
     */
    public static RescoreBody of(Map<String, Object> about, SearchHit[] candidates, List<String> fields, long mostBytes)
        throws IOException {
        try (XContentBuilder json = JsonXContent.contentBuilder()) {
            json.startObject();
            for (Map.Entry<String, Object> said : about.entrySet()) {
                if (said.getValue() != null) {
                    json.field(said.getKey(), said.getValue());
                }
            }
            json.startArray("hits");
            int written = 0;
            long left = mostBytes - jsonBytes(String.valueOf(about));
            for (SearchHit hit : candidates) {
                Map<String, List<String>> texts = FieldTexts.of(hit, fields);
                left -= jsonBytes(texts) + jsonBytes(hit.getId()) + jsonBytes(hit.getIndex()) + HIT_OVERHEAD;
                if (left < 0) {
                    break;
                }
                write(json, hit, texts);
                written++;
            }
            json.endArray().endObject();
            return new RescoreBody(BytesReference.toBytes(BytesReference.bytes(json)), written);
        }
    }

    private static void write(XContentBuilder json, SearchHit hit, Map<String, List<String>> texts) throws IOException {
        json.startObject().field("id", hit.getId());
        if (hit.getIndex() != null) {
            json.field("index", hit.getIndex());
        }
        if (Float.isFinite(hit.getScore())) {
            json.field("score", hit.getScore());
        }
        json.startObject("fields");
        for (Map.Entry<String, List<String>> field : texts.entrySet()) {
            List<String> values = field.getValue();
            json.field(field.getKey(), values.size() == 1 ? values.get(0) : values);
        }
        json.endObject().endObject();
    }

    private static long jsonBytes(Map<String, List<String>> texts) {
        long bytes = 0;
        for (Map.Entry<String, List<String>> field : texts.entrySet()) {
            bytes += jsonBytes(field.getKey());
            for (String text : field.getValue()) {
                bytes += jsonBytes(text);
            }
        }
        return bytes;
    }

    /** At least as many bytes as the text takes in JSON, with its quotes and a comma. */
    private static long jsonBytes(String text) {
        long bytes = 4;
        for (int i = 0; text != null && i < text.length(); i++) {
            char c = text.charAt(i);
            if (c < ' ') {
                bytes += 6;
            } else if (c < 0x80) {
                bytes += c == '"' || c == '\\' ? 2 : 1;
            } else {
                bytes += c < 0x800 ? 2 : 3;
            }
        }
        return bytes;
    }
}
