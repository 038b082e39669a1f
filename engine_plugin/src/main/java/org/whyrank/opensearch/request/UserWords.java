package org.whyrank.opensearch.request;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Deque;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;

/**
 * The user's words, found in the query DSL, by the proxy's rules (plugin_service/rescoring/query_text.py).
 *
 * <p>Which clauses count: those that score. Text in filters is used only where no scoring clause has any, text of
 * {@code must_not} and {@code negative} never. Values of {@code term}, {@code prefix}, {@code wildcard} and the like are
 * an application's, not a user's, and are not read. The same words asked of several fields count once, words that stand
 * within longer ones are left out, and what remains is joined in order.
 */
public final class UserWords {
    private static final int MOST_TEXTS = 64;

    /** A text or a further clause, and whether it scores. */
    private record Node(Object value, boolean scores) {}

    /** Gives what stands below a clause's body. */
    private interface Reader {
        void read(Map<?, ?> body, Consumer<Node> found);
    }

    private static final Map<String, Reader> READERS = readers();

    private UserWords() {}

    /** The words in a query as JSON (of any shape); null where there are none. Never throws, never recurses. */
    public static String in(Object query) {
        List<String> scoring = new ArrayList<>();
        List<String> filtering = new ArrayList<>();
        Deque<Node> stack = new ArrayDeque<>();
        stack.push(new Node(query, true));
        while (stack.isEmpty() == false) {
            Node node = stack.pop();
            if (node.value instanceof String text) {
                (node.scores ? scoring : filtering).add(String.join(" ", text.strip().split("\\s+")));
            } else {
                List<Node> children = children(node.value);
                Collections.reverse(children);
                children.forEach(child -> stack.push(new Node(child.value, node.scores && child.scores)));
            }
        }
        String words = join(scoring);
        words = words.isEmpty() ? join(filtering) : words;
        return words.isEmpty() ? null : words;
    }

    private static List<Node> children(Object value) {
        List<Node> found = new ArrayList<>();
        if (value instanceof List<?> items) {
            items.stream().filter(item -> item != null).forEach(item -> found.add(new Node(item, true)));
        } else if (value instanceof Map<?, ?> clauses) {
            clauses.forEach((name, body) -> expand(name, body, found::add));
        }
        return found;
    }

    private static void expand(Object name, Object body, Consumer<Node> found) {
        if ("query".equals(name)) {
            add(body, true, found);
            return;
        }
        Reader reader = READERS.get(name);
        if (reader != null) {
            for (Object each : body instanceof List<?> bodies ? bodies : Collections.singletonList(body)) {
                if (each instanceof Map<?, ?> map) {
                    reader.read(map, found);
                }
            }
        }
    }

    private static void add(Object value, boolean scores, Consumer<Node> found) {
        if (value != null) {
            found.accept(new Node(value, scores));
        }
    }

    /** Clauses such as {@code {field: "text"}} or {@code {field: {key: "text"}}}. */
    private static Reader byField(String key) {
        return (body, found) -> body.values().forEach(spec -> {
            Object text = spec instanceof Map<?, ?> map ? map.get(key) : spec;
            if (text instanceof String) {
                add(text, true, found);
            }
        });
    }

    /** Clauses that hold a text, a clause, or a list of either below each key. */
    private static Reader below(String... keys) {
        return (body, found) -> Arrays.stream(keys).forEach(key -> add(body.get(key), true, found));
    }

    private static Reader filters(String key) {
        return (body, found) -> add(body.get(key), false, found);
    }

    private static Reader both(Reader first, Reader second) {
        return (body, found) -> {
            first.read(body, found);
            second.read(body, found);
        };
    }

    private static Reader inSyntax(QuerySyntax syntax) {
        return (body, found) -> {
            if (body.get("query") instanceof String text) {
                add(syntax.words(text), true, found);
            }
        };
    }

    /** The texts of {@code match} rules, within {@code all_of} and {@code any_of} to any depth. */
    private static void intervals(Map<?, ?> body, Consumer<Node> found) {
        Deque<Object> stack = new ArrayDeque<>();
        pushReversed(body.values().stream().filter(Map.class::isInstance).toList(), stack);
        while (stack.isEmpty() == false) {
            if (stack.pop() instanceof Map<?, ?> rule) {
                if (rule.get("match") instanceof Map<?, ?> match && match.get("query") instanceof String text) {
                    add(text, true, found);
                }
                for (String name : List.of("any_of", "all_of")) {
                    if (rule.get(name) instanceof Map<?, ?> group && group.get("intervals") instanceof List<?> rules) {
                        pushReversed(rules, stack);
                    }
                }
            }
        }
    }

    private static void pushReversed(List<?> items, Deque<Object> stack) {
        for (int i = items.size() - 1; i >= 0; i--) {
            if (items.get(i) != null) {
                stack.push(items.get(i));
            }
        }
    }

    /** Distinct texts in order, without those whose words stand within another. */
    private static String join(List<String> texts) {
        Map<String, String> distinct = new LinkedHashMap<>();
        for (String text : texts) {
            if (text.isEmpty() == false && distinct.size() < MOST_TEXTS) {
                distinct.putIfAbsent(" " + folded(text) + " ", text);
            }
        }
        List<String> kept = new ArrayList<>();
        distinct.forEach((folded, text) -> {
            if (distinct.keySet().stream().noneMatch(other -> other.equals(folded) == false && other.contains(folded))) {
                kept.add(text);
            }
        });
        return String.join(" ", kept);
    }

    /** Upper case first, so that letters of one sound with several small forms are one. */
    private static String folded(String text) {
        return text.toUpperCase(Locale.ROOT).toLowerCase(Locale.ROOT);
    }

    private static Map<String, Reader> readers() {
        Map<String, Reader> readers = new HashMap<>();
        put(readers, byField("query"), "match", "match_phrase", "match_phrase_prefix", "match_bool_prefix");
        put(readers, byField("query_text"), "neural", "neural_sparse");
        put(readers, byField("value"), "span_term");
        put(readers, below("query"), "multi_match", "combined_fields", "semantic");
        put(readers, below("query"), "function_score", "script_score", "nested", "has_child", "has_parent");
        put(readers, below("query"), "field_masking_span", "span_field_masking");
        put(readers, below("queries"), "dis_max", "hybrid");
        put(readers, below("clauses"), "span_near", "span_or");
        put(readers, below("big", "little"), "span_containing", "span_within");
        put(readers, below("query_text"), "agentic");
        put(readers, both(below("must", "should"), filters("filter")), "bool");
        put(readers, below("positive"), "boosting");
        put(readers, filters("filter"), "constant_score", "knn");
        put(readers, UserWords::intervals, "intervals");
        put(readers, below("like"), "more_like_this");
        put(readers, inSyntax(QuerySyntax.FULL), "query_string");
        put(readers, inSyntax(QuerySyntax.SIMPLE), "simple_query_string");
        put(readers, below("match"), "span_first");
        put(readers, below("include"), "span_not");
        return Map.copyOf(readers);
    }

    private static void put(Map<String, Reader> readers, Reader reader, String... names) {
        Arrays.stream(names).forEach(name -> readers.put(name, reader));
    }
}
