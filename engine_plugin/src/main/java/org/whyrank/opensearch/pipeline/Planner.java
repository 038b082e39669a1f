package org.whyrank.opensearch.pipeline;

import java.io.IOException;
import java.util.List;
import java.util.Map;

import org.opensearch.action.search.SearchRequest;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.xcontent.MediaTypeRegistry;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.sort.ScoreSortBuilder;
import org.opensearch.search.sort.SortBuilder;
import org.opensearch.search.sort.SortOrder;
import org.whyrank.opensearch.hits.SourceView;
import org.whyrank.opensearch.pipeline.Decision.Bypass;
import org.whyrank.opensearch.pipeline.Decision.Plan;
import org.whyrank.opensearch.pipeline.Decision.Reason;
import org.whyrank.opensearch.request.Limits;
import org.whyrank.opensearch.request.SearchOptions;
import org.whyrank.opensearch.request.Texts;
import org.whyrank.opensearch.request.UserWords;

/**
 * Which searches are reranked and how: the proxy's rules (plugin_service/rescoring/search_request.py), but for those on
 * the form of the answer, which an application chooses after us here.
 */
final class Planner {
    private static final int DEFAULT_SIZE = 10;

    private final SearchRequest request;
    private final SearchSourceBuilder search;
    private final ProcessorSettings settings;
    private final SearchOptions options;

    Planner(SearchRequest request, ProcessorSettings settings) {
        this.request = request;
        this.search = request.source();
        this.settings = settings;
        this.options = search == null ? new SearchOptions() : SearchOptions.of(search);
    }

    /** The plan of a search that has not run yet: the engine is asked for the whole window from 0. */
    Decision widening(IndexFacts facts) throws IOException {
        return plan(Math.min(window(), facts.resultWindow()), from(), true);
    }

    /** The plan of a search that has run as it was: the page that it asked for is all that can be reranked. */
    Decision asItWas() throws IOException {
        return plan(window(), 0, false);
    }

    private Decision plan(int window, int from, boolean widened) throws IOException {
        Bypass bypass = switchedOff();
        bypass = bypass == null ? unsuited() : bypass;
        bypass = bypass == null ? beyond(window) : bypass;
        if (bypass != null) {
            return bypass;
        }
        String query = query();
        if (query == null) {
            return new Bypass(Reason.NO_QUERY_TEXT, "No words of a user are in this request.");
        }
        return new Plan(
            Texts.first(Texts.readable(query), Limits.QUERY),
            index(),
            from,
            size(),
            window,
            options.deadlineMs() == null ? settings.deadlineMs() : options.deadlineMs(),
            options.mode() == null ? settings.mode() : options.mode(),
            options.ranking(),
            Boolean.FALSE.equals(options.explain()) == false,
            settings.tenant() == null ? options.tenant() : settings.tenant(),
            options.user(),
            widened ? SourceView.hiding(settings.fields(), search) : null,
            settings
        );
    }

    private Bypass switchedOff() {
        if (Boolean.FALSE.equals(options.enabled())) {
            return new Bypass(Reason.DISABLED_BY_REQUEST, "The request says ext.whyrank.enabled: false.");
        }
        if (settings.enabled() == false) {
            return new Bypass(Reason.POLICY_DISABLED, "The processor is switched off.");
        }
        if (settings.tenant() != null && options.tenant() != null && settings.tenant().equals(options.tenant()) == false) {
            return new Bypass(Reason.TENANT_FIXED, "The pipeline is another tenant's than ext.whyrank.tenant.");
        }
        return null;
    }

    /** What forbids another order. */
    private Bypass unsuited() {
        if (request.scroll() != null) {
            return new Bypass(Reason.SCROLL, "A scroll is an export, not a page of results.");
        }
        if (search == null) {
            return null;
        }
        if (search.searchAfter() != null) {
            return new Bypass(Reason.SEARCH_AFTER, "search_after goes on where another page ended in the engine's order.");
        }
        List<SortBuilder<?>> sorts = search.sorts() == null ? List.of() : search.sorts();
        if (sorts.isEmpty() == false && (sorts.size() == 1 && isByScore(sorts.get(0))) == false) {
            return new Bypass(Reason.SORTED_BY_FIELD, "The caller chose the order; ties broken by a field count as such.");
        }
        if (sorts.isEmpty() == false && search.pointInTimeBuilder() != null) {
            return new Bypass(Reason.SEARCH_AFTER, "A sorted point in time is paged with search_after.");
        }
        if (search.storedFields() != null && search.storedFields().fetchFields() == false) {
            return new Bypass(Reason.WITHOUT_IDS, "stored_fields: _none_ leaves the hits without ids.");
        }
        return null;
    }

    private static boolean isByScore(SortBuilder<?> sort) {
        return sort instanceof ScoreSortBuilder && sort.order() == SortOrder.DESC;
    }

    private Bypass beyond(int window) {
        if (size() == 0 && search.aggregations() != null) {
            return new Bypass(Reason.AGGREGATIONS_ONLY, "Only aggregations were asked for: size is 0.");
        }
        if (size() == 0) {
            return new Bypass(Reason.SIZE_ZERO, "No hits were asked for: size is 0.");
        }
        long end = (long) from() + size();
        if (end > window) {
            String hits = "Hits " + from() + " to " + end + " were asked for";
            return new Bypass(Reason.BEYOND_WINDOW, hits + "; the window holds the first " + window + ".");
        }
        return null;
    }

    private int from() {
        return search == null || search.from() < 0 ? 0 : search.from();
    }

    private int size() {
        return search == null || search.size() < 0 ? DEFAULT_SIZE : search.size();
    }

    private int window() {
        return options.window() == null ? settings.window() : options.window();
    }

    /** What the search names; null where it names nothing, or more than fits. */
    private String index() {
        String names = request.indices() == null ? "" : String.join(",", request.indices());
        return names.isEmpty() || names.length() > Limits.INDEX ? null : names;
    }

    /** The user's words: said outright, at the pipeline's path, said to the rerank processor, or found in the query. */
    private String query() throws IOException {
        if (options.query() != null && options.query().isBlank() == false) {
            return options.query().strip();
        }
        if (search == null) {
            return null;
        }
        Map<String, Object> body = json(search);
        if (settings.queryPath() != null && at(body, settings.queryPath()) instanceof String said && said.isBlank() == false) {
            return said.strip();
        }
        String said = toldToRerank(body);
        return said == null ? UserWords.in(query(body)) : said;
    }

    private static Object query(Map<String, Object> body) {
        Object query = body.get("query");
        return query == null ? Map.of() : query;
    }

    /** {@code ext.rerank.query_context} of neural-search: the text, or where it stands. */
    private static String toldToRerank(Map<String, Object> body) {
        Object text = at(body, "ext.rerank.query_context.query_text");
        if (text instanceof String == false && at(body, "ext.rerank.query_context.query_text_path") instanceof String path) {
            text = path.length() <= Limits.NAME ? at(body, path) : null;
        }
        return text instanceof String said && said.isBlank() == false ? said.strip() : null;
    }

    /** What stands at a dotted path; keys may hold dots, numbers count the items of lists. */
    static Object at(Object value, String path) {
        if (path.isEmpty()) {
            return value;
        }
        for (int dot = path.indexOf('.'); ; dot = path.indexOf('.', dot + 1)) {
            String key = dot < 0 ? path : path.substring(0, dot);
            String rest = dot < 0 ? "" : path.substring(dot + 1);
            Object below = below(value, key);
            Object found = below == null ? null : at(below, rest);
            if (found != null || dot < 0) {
                return found;
            }
        }
    }

    private static Object below(Object value, String key) {
        if (value instanceof Map<?, ?> members) {
            return members.get(key);
        }
        boolean counts = key.isEmpty() == false && key.length() < 6 && key.chars().allMatch(c -> c >= '0' && c <= '9');
        if (counts && value instanceof List<?> items) {
            return Integer.parseInt(key) < items.size() ? items.get(Integer.parseInt(key)) : null;
        }
        return null;
    }

    private static Map<String, Object> json(SearchSourceBuilder search) throws IOException {
        try (XContentBuilder json = XContentBuilder.builder(MediaTypeRegistry.JSON.xContent())) {
            search.toXContent(json, ToXContent.EMPTY_PARAMS);
            return XContentHelper.convertToMap(BytesReference.bytes(json), true, MediaTypeRegistry.JSON).v2();
        }
    }
}
