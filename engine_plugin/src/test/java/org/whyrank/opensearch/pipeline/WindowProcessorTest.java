package org.whyrank.opensearch.pipeline;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;

import java.util.HashMap;
import java.util.List;
import java.util.Map;

import org.junit.jupiter.api.Test;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.index.query.QueryBuilders;
import org.opensearch.search.builder.SearchSourceBuilder;
import org.opensearch.search.pipeline.PipelineProcessingContext;
import org.opensearch.search.pipeline.Processor.PipelineContext;
import org.opensearch.search.pipeline.Processor.PipelineSource;
import org.whyrank.opensearch.pipeline.Decision.Bypass;
import org.whyrank.opensearch.pipeline.Decision.Plan;
import org.whyrank.opensearch.pipeline.Decision.Reason;
import org.whyrank.opensearch.request.SearchOptions;

class WindowProcessorTest {
    private static final IndexFacts.Lookup UNKNOWN = request -> new IndexFacts(List.of());
    private static final IndexFacts.Lookup BROKEN = request -> {
        throw new IllegalStateException("broken");
    };

    private final Halves.Pair pair = new Halves().of(new PipelineContext(PipelineSource.UPDATE_PIPELINE));
    private final PipelineProcessingContext context = new PipelineProcessingContext();
    private final SearchSourceBuilder asked = new SearchSourceBuilder().query(QueryBuilders.matchQuery("title", "red"))
        .from(10)
        .size(5)
        .fetchSource(false)
        .ext(List.of(new SearchOptions()));

    private SearchRequest process(boolean enabled, IndexFacts.Lookup indices) {
        SearchRequest request = new SearchRequest(new String[] { "docs" }, asked);
        return new WindowProcessor(null, null, false, pair, indices, () -> enabled, () -> null).processRequest(request, context);
    }

    private void connect() {
        Map<String, Object> config = Map.of("url", "http://127.0.0.1", "fields", List.of("title"), "window", 50);
        pair.settings(ProcessorSettings.read(null, new HashMap<>(config)));
    }

    @Test
    void widensNothingThatNobodyCutsAgain() {
        assertSame(asked, process(true, BROKEN).source());
        assertNull(context.getAttribute(WindowProcessor.DECISION));
    }

    @Test
    void asksForTheWindowAndForWhatIsRead() {
        connect();
        SearchSourceBuilder sent = process(true, UNKNOWN).source();
        assertEquals(List.of(0, 50), List.of(sent.from(), sent.size()));
        assertEquals(true, sent.fetchSource().fetchSource());
        assertEquals(0, sent.fetchSource().includes().length, "a filter would fail where an index keeps no source");
        assertEquals(List.of(), sent.ext());
        assertInstanceOf(Plan.class, context.getAttribute(WindowProcessor.DECISION));
        assertNotSame(asked, sent);
        assertEquals(List.of(10, 5, 1), List.of(asked.from(), asked.size(), asked.ext().size()), "the application's is its own");
    }

    @Test
    void leavesASearchAsItIsWhenTheClusterIsSwitchedOff() {
        connect();
        SearchSourceBuilder sent = process(false, UNKNOWN).source();
        assertEquals(List.of(10, 5), List.of(sent.from(), sent.size()));
        assertEquals(Reason.POLICY_DISABLED, ((Bypass) context.getAttribute(WindowProcessor.DECISION)).reason());
    }

    @Test
    void leavesASearchAsItIsWhenWeFail() {
        connect();
        assertSame(asked, process(true, BROKEN).source());
        assertEquals(Reason.INTERNAL_ERROR, ((Bypass) context.getAttribute(WindowProcessor.DECISION)).reason());
    }

    @Test
    void theProcessorsOfOnePipelineFindEachOther() {
        Halves halves = new Halves();
        PipelineContext one = new PipelineContext(PipelineSource.UPDATE_PIPELINE);
        PipelineContext other = new PipelineContext(PipelineSource.UPDATE_PIPELINE);
        assertSame(halves.of(one), halves.of(one));
        assertNotSame(halves.of(one), halves.of(other));
    }
}
