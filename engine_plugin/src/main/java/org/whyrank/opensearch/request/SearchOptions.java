package org.whyrank.opensearch.request;

import java.io.IOException;
import java.util.Arrays;
import java.util.Objects;
import java.util.function.Function;

import org.opensearch.core.ParseField;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.ObjectParser;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.builder.SearchSourceBuilder;

/**
 * {@code ext.whyrank} of a search request: what this one search wants otherwise. Null is not said.
 *
 * <p>A name or value that is wrong fails the request while the engine parses it, as the engine's own do.
 */
public final class SearchOptions extends SearchExtBuilder {
    public static final String NAME = "whyrank";

    private static final ObjectParser<SearchOptions, Void> PARSER = new ObjectParser<>(NAME, SearchOptions::new);

    static {
        PARSER.declareString((options, text) -> options.query = text, new ParseField("query"));
        PARSER.declareBoolean((options, said) -> options.enabled = said, new ParseField("enabled"));
        PARSER.declareBoolean((options, said) -> options.explain = said, new ParseField("explain"));
        PARSER.declareInt((options, n) -> options.window = Limits.within(n, 1, Limits.WINDOW), new ParseField("window"));
        PARSER.declareInt(
            (options, n) -> options.deadlineMs = Limits.within(n, 0, Limits.DEADLINE_MS),
            new ParseField("deadline_ms")
        );
        PARSER.declareString((options, name) -> options.mode = Mode.of(name), new ParseField("mode"));
        PARSER.declareString(
            (options, id) -> options.ranking = Limits.named(id, Limits.RANKING),
            new ParseField("ranking")
        );
        PARSER.declareString((options, name) -> options.tenant = Limits.named(name, Limits.NAME), new ParseField("tenant"));
        PARSER.declareString((options, name) -> options.user = Limits.named(name, Limits.NAME), new ParseField("user"));
    }

    private String query;
    private Boolean enabled;
    private Boolean explain;
    private Integer window;
    private Integer deadlineMs;
    private Mode mode;
    private String ranking;
    private String tenant;
    private String user;

    public SearchOptions() {}

    public SearchOptions(StreamInput in) throws IOException {
        query = in.readOptionalString();
        enabled = in.readOptionalBoolean();
        explain = in.readOptionalBoolean();
        window = in.readOptionalInt();
        deadlineMs = in.readOptionalInt();
        mode = read(in.readOptionalString(), Mode::of);
        ranking = in.readOptionalString();
        tenant = in.readOptionalString();
        user = in.readOptionalString();
    }

    public static SearchOptions fromXContent(XContentParser parser) throws IOException {
        return PARSER.parse(parser, null);
    }

    /** Those of a request; none said where it has no {@code ext.whyrank}. */
    public static SearchOptions of(SearchSourceBuilder source) {
        return source.ext()
            .stream()
            .filter(SearchOptions.class::isInstance)
            .map(SearchOptions.class::cast)
            .findFirst()
            .orElseGet(SearchOptions::new);
    }

    /** The user's words. */
    public String query() {
        return query;
    }

    public Boolean enabled() {
        return enabled;
    }

    public Boolean explain() {
        return explain;
    }

    public Integer window() {
        return window;
    }

    public Integer deadlineMs() {
        return deadlineMs;
    }

    public Mode mode() {
        return mode;
    }

    /** The id of an earlier answer's ranking, whose order is wanted. */
    public String ranking() {
        return ranking;
    }

    public String tenant() {
        return tenant;
    }

    public String user() {
        return user;
    }

    @Override
    public String getWriteableName() {
        return NAME;
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeOptionalString(query);
        out.writeOptionalBoolean(enabled);
        out.writeOptionalBoolean(explain);
        out.writeOptionalInt(window);
        out.writeOptionalInt(deadlineMs);
        out.writeOptionalString(Objects.toString(mode, null));
        out.writeOptionalString(ranking);
        out.writeOptionalString(tenant);
        out.writeOptionalString(user);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        builder.startObject(NAME);
        field(builder, "query", query);
        field(builder, "enabled", enabled);
        field(builder, "explain", explain);
        field(builder, "window", window);
        field(builder, "deadline_ms", deadlineMs);
        field(builder, "mode", Objects.toString(mode, null));
        field(builder, "ranking", ranking);
        field(builder, "tenant", tenant);
        field(builder, "user", user);
        return builder.endObject();
    }

    private static void field(XContentBuilder builder, String name, Object value) throws IOException {
        if (value != null) {
            builder.field(name, value);
        }
    }

    private static <T> T read(String text, Function<String, T> reader) {
        return text == null ? null : reader.apply(text);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof SearchOptions options && state(this).equals(state(options));
    }

    @Override
    public int hashCode() {
        return state(this).hashCode();
    }

    private static Object state(SearchOptions o) {
        return Arrays.asList(
            o.query,
            o.enabled,
            o.explain,
            o.window,
            o.deadlineMs,
            o.mode,
            o.ranking,
            o.tenant,
            o.user
        );
    }
}
