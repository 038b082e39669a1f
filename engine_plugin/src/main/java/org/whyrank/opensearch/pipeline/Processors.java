package org.whyrank.opensearch.pipeline;

import java.util.Map;

import org.opensearch.search.pipeline.Processor;
import org.opensearch.search.pipeline.SearchRequestProcessor;
import org.opensearch.search.pipeline.SearchResponseProcessor;

/** The two processors named {@code whyrank}, for the engine's pipelines. */
public final class Processors {
    private final Halves halves = new Halves();
    private final Parts parts;

    public Processors(Parts parts) {
        this.parts = parts;
    }

    public Map<String, Processor.Factory<SearchRequestProcessor>> ofRequests() {
        return Map.of(WindowProcessor.TYPE, WindowProcessor.factory(halves, parts));
    }

    public Map<String, Processor.Factory<SearchResponseProcessor>> ofResponses() {
        return Map.of(WindowProcessor.TYPE, RescoreProcessor.factory(halves, parts));
    }
}
