package org.whyrank.opensearch.hits;

import java.io.IOException;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.search.SearchExtBuilder;
import org.whyrank.opensearch.request.SearchOptions;

/** {@code ext.whyrank} of an answer: what was done to the search, and why. */
public final class RankingSummary extends SearchExtBuilder {
    /** On the wire; another than the request's, which no answer carries. */
    public static final String NAME = "whyrank_summary";

    private final Map<String, Object> members;

    /** {@code members} are texts, numbers, booleans and nulls. */
    public RankingSummary(Map<String, Object> members) {
        this.members = Collections.unmodifiableMap(new LinkedHashMap<>(members));
    }

    public RankingSummary(StreamInput in) throws IOException {
        this(in.readMap());
    }

    public Map<String, Object> members() {
        return members;
    }

    @Override
    public String getWriteableName() {
        return NAME;
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeMap(members);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        return builder.field(SearchOptions.NAME, members);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof RankingSummary summary && members.equals(summary.members);
    }

    @Override
    public int hashCode() {
        return members.hashCode();
    }
}
