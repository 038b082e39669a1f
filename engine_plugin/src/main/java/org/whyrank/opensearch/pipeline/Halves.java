package org.whyrank.opensearch.pipeline;

import java.util.Collections;
import java.util.Map;
import java.util.WeakHashMap;

import org.opensearch.search.pipeline.Processor.PipelineContext;

/**
 * Lets the two processors of one pipeline find each other: the settings stand in one place, the response processor.
 *
 * <p>The engine gives every pipeline that it builds a {@link PipelineContext} of its own, and the same one to all of the
 * pipeline's processors. It is the key here, and held weakly: it is gone once the pipeline is built.
 */
final class Halves {
    /** What both processors of one pipeline hold. */
    static final class Pair {
        private volatile ProcessorSettings settings;

        /** Null where the pipeline has no response processor: then nothing is widened, as nothing would cut it again. */
        ProcessorSettings settings() {
            return settings;
        }

        void settings(ProcessorSettings given) {
            settings = given;
        }
    }

    private final Map<PipelineContext, Pair> pairs = Collections.synchronizedMap(new WeakHashMap<>());

    Pair of(PipelineContext pipeline) {
        return pairs.computeIfAbsent(pipeline, unused -> new Pair());
    }
}
