package org.whyrank.opensearch.sidecar;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.json.JsonXContent;

/**
 * What the sidecar answers, checked: whatever is in it can be shown.
 *
 * @param order   a permutation of the request's hits
 * @param hits    what is known of each hit, in the request's order: name to value, null where there is no verdict
 * @param summary what is said of the whole ranking
 */
public record RescoreAnswer(int[] order, List<Map<String, Object>> hits, Map<String, Object> summary) {
    private static final Set<String> STATUSES =
        Set.of("complete", "partial", "pending", "warming", "bypassed", "shed", "failed");

    public String status() {
        return (String) summary.get("status");
    }

    /** Reads an answer to a request of {@code count} hits. */
    public static RescoreAnswer read(byte[] body, int count) throws WrongAnswerException {
        Map<String, Object> json;
        try {
            json = XContentHelper.convertToMap(JsonXContent.jsonXContent, body, 0, body.length, true);
        } catch (RuntimeException e) {
            throw new WrongAnswerException("it is not a JSON object");
        }
        Members answer = new Members("the answer", json);
        return new RescoreAnswer(order(answer.list("order"), count), hits(answer.list("hits"), count), summary(answer));
    }

    private static int[] order(List<?> places, int count) throws WrongAnswerException {
        int[] order = new int[count];
        boolean[] seen = new boolean[count];
        for (int place = 0; place < count && places.size() == count; place++) {
            if (places.get(place) instanceof Integer hit && hit >= 0 && hit < count && seen[hit] == false) {
                order[place] = hit;
                seen[hit] = true;
            } else {
                throw new WrongAnswerException("[order] is not a permutation of " + count + " hits");
            }
        }
        if (places.size() != count) {
            throw new WrongAnswerException("[order] has " + places.size() + " places for " + count + " hits");
        }
        return order;
    }

    private static List<Map<String, Object>> hits(List<?> items, int count) throws WrongAnswerException {
        if (items.size() != count) {
            throw new WrongAnswerException("[hits] has " + items.size() + " items for " + count + " hits");
        }
        List<Map<String, Object>> hits = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            hits.add(items.get(i) == null ? null : entries(Members.of("hits[" + i + "]", items.get(i))));
        }
        return hits;
    }

    private static Map<String, Object> entries(Members hit) throws WrongAnswerException {
        Map<String, Object> entries = new LinkedHashMap<>();
        for (String name : List.of("score", "relevance", "similarity")) {
            put(entries, name, hit.number(name));
        }
        put(entries, "label", hit.integer("label"));
        put(entries, "grounded", hit.flag("grounded"));
        put(entries, "explanation", hit.text("explanation"));
        List<Map<String, Object>> quotes = new ArrayList<>();
        for (Object item : hit.list("quotes")) {
            quotes.add(quote(Members.of("a quote", item)));
        }
        put(entries, "quotes", quotes.isEmpty() ? null : quotes);
        return entries;
    }

    private static Map<String, Object> quote(Members quote) throws WrongAnswerException {
        Map<String, Object> entries = new LinkedHashMap<>();
        put(entries, "text", quote.text("text"));
        put(entries, "start", quote.integer("start"));
        put(entries, "end", quote.integer("end"));
        put(entries, "field", quote.text("field"));
        return entries;
    }

    private static Map<String, Object> summary(Members answer) throws WrongAnswerException {
        Map<String, Object> summary = new LinkedHashMap<>();
        for (String name : List.of("status", "reason", "ranking_id", "mode", "model_revision")) {
            summary.put(name, answer.text(name));
        }
        for (String name : List.of("window", "judged", "missing", "failed", "truncated")) {
            put(summary, name, answer.integer(name));
        }
        if (summary.get("status") == null || STATUSES.contains(summary.get("status")) == false) {
            throw new WrongAnswerException("it has no known [status]");
        }
        return summary;
    }

    private static void put(Map<String, Object> entries, String name, Object value) {
        if (value != null) {
            entries.put(name, value);
        }
    }
}
