package org.whyrank.opensearch.pipeline;

import java.net.URI;
import java.util.List;
import java.util.Map;
import java.util.function.IntUnaryOperator;
import java.util.function.UnaryOperator;

import org.opensearch.ingest.ConfigurationUtils;
import org.whyrank.opensearch.request.Limits;
import org.whyrank.opensearch.request.Mode;

/**
 * What an admin says of one {@code whyrank} response processor.
 *
 * @param url        where searches are sent: the sidecar's address, with the path of its endpoint
 * @param fields     paths of the fields whose text is read
 * @param window     how many of the first hits are reranked, unless the search says otherwise
 * @param deadlineMs how long the sidecar may take, unless the search says otherwise
 * @param graceMs    how long after its deadline its answer is still awaited
 * @param mode       null: the sidecar's policy decides
 * @param queryPath  dotted path in the search body to the user's words; null: they are looked for
 * @param tenant     fixed for this pipeline; null: the search may say it
 * @param enabled    whether anything is reranked
 */
public record ProcessorSettings(
    URI url,
    List<String> fields,
    int window,
    int deadlineMs,
    int graceMs,
    Mode mode,
    String queryPath,
    String tenant,
    boolean enabled
) {
    private static final String ENDPOINT = "/v1/rescore";

    /**
     * Takes the settings out of {@code config}: what is left in it is unknown, and the engine says so. Throws
     * OpenSearchParseException naming the property that is wrong.
     */
    static ProcessorSettings read(String tag, Map<String, Object> config) {
        Properties from = new Properties(tag, config);
        return new ProcessorSettings(
            endpoint(from),
            fields(from),
            from.number("window", 10, n -> Limits.within(n, 1, Limits.WINDOW)),
            from.number("deadline_ms", 300, n -> Limits.within(n, 0, Limits.DEADLINE_MS)),
            from.number("grace_ms", 200, n -> Limits.within(n, 1, Limits.DEADLINE_MS)),
            from.has("mode") ? Mode.of(from.text("mode", name -> Mode.of(name).toString())) : null,
            from.text("query_path", path -> Limits.named(path, Limits.NAME)),
            from.text("tenant", name -> Limits.named(name, Limits.NAME)),
            ConfigurationUtils.readBooleanProperty(WindowProcessor.TYPE, tag, config, "enabled", true)
        );
    }

    private static URI endpoint(Properties from) {
        if (from.has("url") == false) {
            throw from.wrong("url", "required property is missing");
        }
        String text = from.text("url", url -> Limits.named(url, 2_048));
        try {
            URI url = URI.create(text);
            boolean http = "http".equals(url.getScheme()) || "https".equals(url.getScheme());
            if (http == false || url.getHost() == null || url.getRawQuery() != null || url.getRawFragment() != null) {
                throw new IllegalArgumentException("no host, another scheme, or a query");
            }
            if (url.getRawUserInfo() != null) {
                throw new IllegalArgumentException("a user in it would be shown to whoever reads the pipeline");
            }
            String base = text.endsWith("/") ? text.substring(0, text.length() - 1) : text;
            return base.endsWith(ENDPOINT) ? URI.create(base) : URI.create(base + ENDPOINT);
        } catch (IllegalArgumentException e) {
            throw from.wrong("url", "must be an address such as http://127.0.0.1:8080 (" + e.getMessage() + ")");
        }
    }

    private static List<String> fields(Properties from) {
        List<?> names = ConfigurationUtils.readList(WindowProcessor.TYPE, from.tag, from.config, "fields");
        boolean texts = names.stream().allMatch(name -> name instanceof String text && text.isBlank() == false);
        if (names.isEmpty() || names.size() > Limits.FIELDS || texts == false) {
            throw from.wrong("fields", "must be 1 to " + Limits.FIELDS + " field paths");
        }
        return names.stream().map(String.class::cast).distinct().toList();
    }

    /** The properties of one processor, each taken out as it is read. */
    private record Properties(String tag, Map<String, Object> config) {
        boolean has(String name) {
            return config.containsKey(name);
        }

        int number(String name, int standard, IntUnaryOperator check) {
            int number = ConfigurationUtils.readIntProperty(WindowProcessor.TYPE, tag, config, name, standard);
            try {
                return check.applyAsInt(number);
            } catch (IllegalArgumentException e) {
                throw wrong(name, e.getMessage());
            }
        }

        String text(String name, UnaryOperator<String> check) {
            String text = ConfigurationUtils.readOptionalStringProperty(WindowProcessor.TYPE, tag, config, name);
            try {
                return text == null ? null : check.apply(text);
            } catch (IllegalArgumentException e) {
                throw wrong(name, e.getMessage());
            }
        }

        RuntimeException wrong(String name, String what) {
            return ConfigurationUtils.newConfigurationException(WindowProcessor.TYPE, tag, name, what);
        }
    }
}
