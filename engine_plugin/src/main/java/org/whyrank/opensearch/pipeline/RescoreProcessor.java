package org.whyrank.opensearch.pipeline;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.action.support.ContextPreservingActionListener;
import org.opensearch.core.action.ActionListener;
import org.opensearch.ingest.ConfigurationUtils;
import org.opensearch.search.pipeline.AbstractProcessor;
import org.opensearch.search.pipeline.PipelineProcessingContext;
import org.opensearch.search.pipeline.Processor;
import org.opensearch.search.pipeline.SearchResponseProcessor;
import org.whyrank.opensearch.pipeline.Decision.Bypass;
import org.whyrank.opensearch.pipeline.Decision.Reason;

/**
 * The response half: has the hits judged by the sidecar, and answers with the page in the new order.
 *
 * <p>Whatever goes wrong, it answers with the engine's order and says why; it never fails a search.
 */
final class RescoreProcessor extends AbstractProcessor implements SearchResponseProcessor {
    private static final Logger logger = LogManager.getLogger(RescoreProcessor.class);

    private final ProcessorSettings settings;
    private final boolean allowed;
    private final Parts parts;

    private RescoreProcessor(
        String tag,
        String description,
        boolean ignoreFailure,
        ProcessorSettings settings,
        boolean allowed,
        Parts parts
    ) {
        super(tag, description, ignoreFailure);
        this.settings = settings;
        this.allowed = allowed;
        this.parts = parts;
    }

    @Override
    public String getType() {
        return WindowProcessor.TYPE;
    }

    @Override
    public SearchResponse processResponse(SearchRequest request, SearchResponse response) {
        throw new UnsupportedOperationException("the engine's thread would have to wait");
    }

    @Override
    public void processResponseAsync(
        SearchRequest request,
        SearchResponse response,
        PipelineProcessingContext context,
        ActionListener<SearchResponse> listener
    ) {
        // The sidecar answers on another thread, which knows nothing of the caller: its headers, its rights.
        ActionListener<SearchResponse> preserving =
            ContextPreservingActionListener.wrapPreservingContext(listener, parts.pool().getThreadContext());
        boolean profiled = request.source() != null && request.source().profile();
        new Rescoring(parts, response, profiled, preserving).begin(decision(request, context));
    }

    private Decision decision(SearchRequest request, PipelineProcessingContext context) {
        Decision planned = (Decision) context.getAttribute(WindowProcessor.DECISION);
        context.setAttribute(WindowProcessor.DECISION, null); // the page is cut once
        if (planned != null) {
            return planned;
        }
        if (allowed == false) {
            return notAllowed(settings);
        }
        if (parts.enabled().getAsBoolean() == false) {
            return WindowProcessor.SWITCHED_OFF;
        }
        try {
            return new Planner(request, settings).asItWas();
        } catch (Exception e) {
            logger.warn("a search could not be planned, and is not rescored", e);
            return new Bypass(Reason.INTERNAL_ERROR, "The search could not be planned; the engine's log says more.");
        }
    }

    private static Bypass notAllowed(ProcessorSettings settings) {
        return new Bypass(Reason.URL_NOT_ALLOWED, "This node's whyrank.allowed_urls does not cover " + settings.url() + ".");
    }

    /** Makes response halves. Throws OpenSearchParseException naming the property that is wrong. */
    static Processor.Factory<SearchResponseProcessor> factory(Halves halves, Parts parts) {
        return (others, tag, description, ignoreFailure, config, pipeline) -> {
            ProcessorSettings settings = ProcessorSettings.read(tag, config);
            boolean allowed = parts.settings().allowedUrls().covers(settings.url());
            // A node that has the pipeline already must not lose it when its settings change: searches would fail.
            if (allowed == false && pipeline.getPipelineSource() != Processor.PipelineSource.UPDATE_PIPELINE) {
                String problem = "is not covered by the node setting whyrank.allowed_urls";
                throw ConfigurationUtils.newConfigurationException(WindowProcessor.TYPE, tag, "url", problem);
            }
            if (allowed) {
                halves.of(pipeline).settings(settings);
            }
            return new RescoreProcessor(tag, description, ignoreFailure, settings, allowed, parts);
        };
    }
}
