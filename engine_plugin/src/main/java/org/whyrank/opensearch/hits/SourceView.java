package org.whyrank.opensearch.hits;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

import org.opensearch.common.collect.Tuple;
import org.opensearch.common.regex.Regex;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.xcontent.MediaType;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.search.SearchHit;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.fetch.StoredFieldsContext;
import org.opensearch.search.fetch.subphase.FetchSourceContext;

/**
 * What the user asked to see of documents' sources, where that is less than the sidecar has to read: more is fetched,
 * and taken away again before the answer leaves.
 */
public final class SourceView {
    private final FetchSourceContext wanted;

    private SourceView(FetchSourceContext wanted) {
        this.wanted = wanted;
    }

    /** The view of a search that hides one of the fields and shows it nowhere else; null where it hides none. */
    public static SourceView hiding(List<String> fields, SearchSourceBuilder search) {
        FetchSourceContext wanted = wanted(search);
        List<String> shown = shown(search);
        boolean hides = fields.stream()
            .filter(field -> keeps(wanted, field) == false)
            .anyMatch(field -> Regex.simpleMatch(shown, field) == false);
        return hides ? new SourceView(wanted) : null;
    }

    /** What to fetch so that the fields are in it, and all that the user asked for; `filtered`: only that. */
    public FetchSourceContext widened(List<String> fields, boolean filtered) {
        if (wanted.fetchSource() == false) {
            return new FetchSourceContext(true, filtered ? fields.toArray(String[]::new) : null, null);
        }
        if (wanted.includes().length == 0 || wanted.excludes().length > 0) {
            return FetchSourceContext.FETCH_SOURCE;
        }
        return new FetchSourceContext(true, Stream.concat(Stream.of(wanted.includes()), fields.stream()).toArray(String[]::new), null);
    }

    /** Takes from a hit what the user did not ask for, as the engine would have. */
    public void restore(SearchHit hit) {
        if (hit.hasSource()) {
            hit.sourceRef(wanted.fetchSource() ? filtered(hit) : null);
        }
    }

    /** Null where the source cannot be read: rather nothing than what was not asked for. */
    @SuppressWarnings("deprecation") // a hit does not tell the form of its source, so that it has to be recognised
    private BytesReference filtered(SearchHit hit) {
        try {
            Tuple<? extends MediaType, Map<String, Object>> source = XContentHelper.convertToMap(hit.getSourceRef(), false);
            try (XContentBuilder filtered = XContentBuilder.builder(source.v1().xContent())) {
                return BytesReference.bytes(filtered.value(wanted.getFilter().apply(source.v2())));
            }
        } catch (IOException | RuntimeException e) {
            return null;
        }
    }

    /** As the engine's fetch phase reads a request. */
    private static FetchSourceContext wanted(SearchSourceBuilder search) {
        FetchSourceContext said = search.fetchSource();
        StoredFieldsContext stored = search.storedFields();
        if (stored != null && stored.fieldNames() != null && stored.fieldNames().contains("_source")) {
            return said == null ? FetchSourceContext.FETCH_SOURCE : new FetchSourceContext(true, said.includes(), said.excludes());
        }
        if (said != null) {
            return said;
        }
        boolean others = stored != null || search.scriptFields() != null && search.scriptFields().isEmpty() == false;
        return others ? FetchSourceContext.DO_NOT_FETCH_SOURCE : FetchSourceContext.FETCH_SOURCE;
    }

    private static boolean keeps(FetchSourceContext source, String path) {
        if (source.fetchSource() == false) {
            return false;
        }
        boolean included = source.includes().length == 0 || names(source.includes(), path);
        return included && names(source.excludes(), path) == false;
    }

    /** Whether a pattern names the path or an object that holds it. */
    private static boolean names(String[] patterns, String path) {
        for (int end = path.length(); end > 0; end = path.lastIndexOf('.', end - 1)) {
            if (Regex.simpleMatch(patterns, path.substring(0, end))) {
                return true;
            }
        }
        return false;
    }

    /** Patterns of what is in the hits' `fields`. */
    private static List<String> shown(SearchSourceBuilder search) {
        List<String> shown = new ArrayList<>();
        if (search.fetchFields() != null) {
            search.fetchFields().forEach(field -> shown.add(field.field));
        }
        if (search.docValueFields() != null) {
            search.docValueFields().forEach(field -> shown.add(field.field));
        }
        if (search.storedFields() != null && search.storedFields().fieldNames() != null) {
            shown.addAll(search.storedFields().fieldNames());
        }
        return shown;
    }
}
