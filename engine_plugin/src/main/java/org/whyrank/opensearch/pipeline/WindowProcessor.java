package org.whyrank.opensearch.pipeline;

import java.io.IOException;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.pipeline.AbstractProcessor;
import org.opensearch.search.pipeline.PipelineProcessingContext;
import org.opensearch.search.pipeline.Processor;
import org.opensearch.search.pipeline.SearchRequestProcessor;
import org.whyrank.opensearch.pipeline.Decision.Bypass;
import org.whyrank.opensearch.pipeline.Decision.Plan;
import org.whyrank.opensearch.pipeline.Decision.Reason;
import org.whyrank.opensearch.request.SearchOptions;

/**
 * The request half: has the engine fetch the whole window, so that every page is cut from one ranking.
 *
 * <p>It has no settings; those of the response processor of the same pipeline are its own. It never fails a search.
 */
final class WindowProcessor extends AbstractProcessor implements SearchRequestProcessor {
    static final String TYPE = "whyrank";
    /** Where the plan waits for the response processor. */
    static final String DECISION = "whyrank.decision";

    static final Bypass SWITCHED_OFF = new Bypass(Reason.POLICY_DISABLED, "The cluster setting whyrank.enabled is false.");

    private static final Bypass REFUSED = new Bypass(Reason.ENGINE_REFUSED, "The engine refused the widened search.");
    private static final Logger logger = LogManager.getLogger(WindowProcessor.class);

    private final Halves.Pair pair;
    private final IndexFacts.Lookup indices;
    private final BooleanSupplier enabled;
    private final Supplier<SecondChance.Attempt> attempts;

    WindowProcessor(
        String tag,
        String description,
        boolean ignoreFailure,
        Halves.Pair pair,
        IndexFacts.Lookup indices,
        BooleanSupplier enabled,
        Supplier<SecondChance.Attempt> attempts
    ) {
        super(tag, description, ignoreFailure);
        this.pair = pair;
        this.indices = indices;
        this.enabled = enabled;
        this.attempts = attempts;
    }

    @Override
    public String getType() {
        return TYPE;
    }

    @Override
    public SearchRequest processRequest(SearchRequest request) {
        return request; // without a place to leave the plan, the response processor would not know of the window
    }

    @Override
    public SearchRequest processRequest(SearchRequest request, PipelineProcessingContext context) {
        ProcessorSettings settings = pair.settings();
        if (settings == null) {
            return request;
        }
        Decision decision;
        SearchSourceBuilder source = request.source();
        try {
            IndexFacts facts = indices.of(request);
            decision = decide(new Planner(request, settings), facts);
            source = source == null ? null : rewritten(source, decision, facts);
        } catch (Exception e) {
            logger.warn("a search could not be planned, and is not rescored", e);
            decision = new Bypass(Reason.INTERNAL_ERROR, "The search could not be planned; the engine's log says more.");
        }
        context.setAttribute(DECISION, decision);
        if (source != null) {
            request.source(source);
        }
        return request;
    }

    private Decision decide(Planner planner, IndexFacts facts) throws IOException {
        if (enabled.getAsBoolean() == false) {
            return SWITCHED_OFF;
        }
        SecondChance.Attempt attempt = attempts.get();
        if (attempt != null && attempt.second()) {
            return REFUSED;
        }
        Decision decision = planner.widening(facts);
        if (attempt != null && decision instanceof Plan) {
            attempt.widened();
        }
        return decision;
    }

    /** A copy: the request that the application gave stays as it is. */
    private static SearchSourceBuilder rewritten(SearchSourceBuilder was, Decision decision, IndexFacts facts) {
        SearchSourceBuilder source = was.shallowCopy();
        if (was.searchPipelineSource() != null) {
            source.searchPipelineSource(was.searchPipelineSource());
        }
        // What is ours is read by now; other nodes, and other clusters, need not know it.
        source.ext(was.ext().stream().filter(ext -> ext instanceof SearchOptions == false).toList());
        if (decision instanceof Plan plan) {
            source.from(0).size(plan.window());
            if (plan.source() != null && facts.source() != IndexFacts.Source.DISABLED) {
                boolean filtered = facts.source() == IndexFacts.Source.KEPT;
                source.fetchSource(plan.source().widened(plan.settings().fields(), filtered));
            }
        }
        return source;
    }

    /** Makes request halves; none of their properties is their own. */
    static Processor.Factory<SearchRequestProcessor> factory(Halves halves, Parts parts) {
        return (others, tag, description, ignoreFailure, config, pipeline) -> new WindowProcessor(
            tag,
            description,
            ignoreFailure,
            halves.of(pipeline),
            parts.indices(),
            parts.enabled(),
            () -> SecondChance.Attempt.in(parts.pool().getThreadContext())
        );
    }
}
