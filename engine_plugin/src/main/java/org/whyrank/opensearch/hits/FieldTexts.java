package org.whyrank.opensearch.hits;

import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

import org.opensearch.common.document.DocumentField;
import org.opensearch.common.xcontent.LoggingDeprecationHandler;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.core.common.bytes.BytesReference;
import org.opensearch.core.xcontent.MediaTypeRegistry;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.core.xcontent.XContentParser.Token;
import org.opensearch.search.SearchHit;
import org.whyrank.opensearch.request.Limits;
import org.whyrank.opensearch.request.Texts;

/**
 * The texts of a hit's fields, as the proxy reads them from the engine's answer, so that a verdict given at one door is
 * found at the other: arrays are walked, keys may hold dots, numbers and booleans read as they are written, null and
 * objects are no text.
 */
public final class FieldTexts {
    private static final int MOST_DEPTH = 64;

    private final List<String> paths;
    private final Map<String, List<String>> found = new LinkedHashMap<>();
    private final Map<String, Integer> lengths = new LinkedHashMap<>();

    private FieldTexts(List<String> paths) {
        this.paths = paths;
    }

    /** The texts by path, in the paths' order; paths without text are left out. */
    public static Map<String, List<String>> of(SearchHit hit, List<String> paths) {
        FieldTexts texts = new FieldTexts(paths);
        if (hit.hasSource()) {
            texts.readSource(hit);
        }
        Map<String, List<String>> inOrder = new LinkedHashMap<>();
        for (String path : paths) {
            if (texts.found.containsKey(path) == false) {
                texts.readField(path, hit.field(path));
            }
            if (texts.found.containsKey(path)) {
                inOrder.put(path, texts.found.get(path));
            }
        }
        return inOrder;
    }

    /** A source that cannot be read has no texts, or only those before the fault. */
    private void readSource(SearchHit hit) {
        try (XContentParser parser = parser(hit.getSourceRef())) {
            if (parser.nextToken() == Token.START_OBJECT) {
                readObject(parser, "", 0);
            }
        } catch (IOException | RuntimeException e) {
            return;
        }
    }

    @SuppressWarnings("deprecation") // a hit does not tell the form of its source, so that it has to be recognised
    private static XContentParser parser(BytesReference source) throws IOException {
        return XContentHelper.createParser(
            NamedXContentRegistry.EMPTY,
            LoggingDeprecationHandler.INSTANCE,
            source,
            MediaTypeRegistry.xContentType(source)
        );
    }

    private void readObject(XContentParser parser, String prefix, int depth) throws IOException {
        while (parser.nextToken() == Token.FIELD_NAME) {
            String path = prefix + parser.currentName();
            parser.nextToken();
            if (paths.contains(path) || leads(path)) {
                readValue(parser, path, depth + 1);
            } else {
                parser.skipChildren();
            }
        }
    }

    private void readValue(XContentParser parser, String path, int depth) throws IOException {
        Token token = parser.currentToken();
        if (depth > MOST_DEPTH) {
            parser.skipChildren();
        } else if (token == Token.START_ARRAY) {
            while (parser.nextToken() != Token.END_ARRAY) {
                readValue(parser, path, depth + 1);
            }
        } else if (token == Token.START_OBJECT) {
            if (leads(path)) {
                readObject(parser, path + ".", depth);
            } else {
                parser.skipChildren();
            }
        } else if (token.isValue() && token != Token.VALUE_EMBEDDED_OBJECT && paths.contains(path)) {
            add(path, parser.text());
        }
    }

    /** Whether a wanted field may be below an object at this path. */
    private boolean leads(String path) {
        return paths.stream()
            .anyMatch(wanted -> wanted.length() > path.length() && wanted.startsWith(path) && wanted.charAt(path.length()) == '.');
    }

    private void readField(String path, DocumentField field) {
        if (field != null) {
            for (Object value : field.getValues()) {
                if (value instanceof String || value instanceof Number || value instanceof Boolean) {
                    add(path, value.toString());
                }
            }
        }
    }

    private void add(String path, String text) {
        int left = Limits.TEXT - lengths.getOrDefault(path, 0);
        if (text.isEmpty() || left <= 1) {
            return;
        }
        String kept = Texts.readable(Texts.first(text, left - 1));
        found.computeIfAbsent(path, name -> new ArrayList<>()).add(kept);
        lengths.merge(path, kept.length() + 1, Integer::sum);
    }
}
