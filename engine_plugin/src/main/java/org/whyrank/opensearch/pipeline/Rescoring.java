package org.whyrank.opensearch.pipeline;

import java.io.IOException;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.core.action.ActionListener;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.SearchHit;
import org.opensearch.tasks.Task;
import org.whyrank.opensearch.hits.Page;
import org.whyrank.opensearch.hits.RankingSummary;
import org.whyrank.opensearch.pipeline.Decision.Bypass;
import org.whyrank.opensearch.pipeline.Decision.Plan;
import org.whyrank.opensearch.sidecar.Outcome;
import org.whyrank.opensearch.sidecar.RescoreAnswer;
import org.whyrank.opensearch.sidecar.RescoreBody;
import org.whyrank.opensearch.sidecar.SidecarClient;

/** One search's answer on its way through the response half. It is answered exactly once, and never with a failure. */
final class Rescoring {
    private static final Logger logger = LogManager.getLogger(Rescoring.class);
    /** What the sidecar takes for a request's id. */
    private static final Pattern REQUEST_ID = Pattern.compile("[!-~]{1,128}");

    private final Parts parts;
    private final SearchResponse response;
    private final boolean profiled;
    private final ActionListener<SearchResponse> listener;
    private final long began = System.nanoTime();

    Rescoring(Parts parts, SearchResponse response, boolean profiled, ActionListener<SearchResponse> listener) {
        this.parts = parts;
        this.response = response;
        this.profiled = profiled;
        this.listener = listener;
    }

    void begin(Decision decision) {
        switch (decision) {
            case Bypass bypass -> answer(untouched(bypass));
            case Plan plan when hits().length == 0 -> answer(engineOrder(plan, "complete", "no_hits"));
            case Plan plan -> dispatch(plan);
        }
    }

    /** Reading the window's documents takes a while; the thread here may be one that serves the network. */
    private void dispatch(Plan plan) {
        String id = parts.pool().getThreadContext().getHeader(Task.X_OPAQUE_ID);
        try {
            parts.pool().generic().execute(() -> ask(plan, id));
        } catch (RuntimeException e) {
            answer(broken(plan, e)); // the node is closing
        }
    }

    private void ask(Plan plan, String id) {
        SidecarClient.Call call;
        try {
            RescoreBody body = body(plan);
            if (body.hits() == 0) {
                answer(engineOrder(plan, "failed", "request_too_large: the first hit alone exceeds whyrank.max_request_size"));
                return;
            }
            String known = id != null && REQUEST_ID.matcher(id).matches() ? id : null;
            long timeoutMs = (long) plan.deadlineMs() + plan.settings().graceMs();
            call = new SidecarClient.Call(plan.settings().url(), body.bytes(), body.hits(), timeoutMs, known);
        } catch (Exception e) {
            answer(broken(plan, e));
            return;
        }
        parts.client().rescore(call, outcome -> settle(plan, call.hits(), outcome));
    }

    private void settle(Plan plan, int sent, Outcome outcome) {
        SearchResponse page;
        try {
            page = switch (outcome) {
                case Outcome.Answered answered -> ranked(plan, sent, answered.answer());
                case Outcome.Failed failed -> engineOrder(plan, failed.status(), failed.reason());
            };
        } catch (RuntimeException e) {
            page = broken(plan, e);
        }
        answer(page);
    }

    private RescoreBody body(Plan plan) throws IOException {
        SearchHit[] candidates = candidates(plan);
        Map<String, Object> about = new LinkedHashMap<>();
        about.put("index", plan.index() == null ? commonIndex(candidates) : plan.index());
        about.put("query", plan.query());
        about.put("window", plan.window());
        about.put("deadline_ms", plan.deadlineMs());
        about.put("mode", plan.mode() == null ? null : plan.mode().toString());
        about.put("fields", plan.settings().fields());
        about.put("tenant", plan.tenant());
        about.put("user", plan.user());
        about.put("explain", plan.explain());
        about.put("ranking", plan.ranking());
        about.put("from", plan.from());
        return RescoreBody.of(about, candidates, plan.settings().fields(), parts.settings().requestBytes());
    }

    private static String commonIndex(SearchHit[] hits) {
        List<String> indices = Arrays.stream(hits).map(SearchHit::getIndex).distinct().toList();
        return indices.size() == 1 && indices.get(0) != null ? indices.get(0) : "_all";
    }

    private SearchHit[] hits() {
        return response.getHits().getHits();
    }

    private SearchHit[] candidates(Plan plan) {
        return Arrays.copyOf(hits(), Math.min(hits().length, plan.window()));
    }

    private SearchResponse ranked(Plan plan, int sent, RescoreAnswer answer) {
        Map<String, Object> said = new LinkedHashMap<>(answer.summary());
        int candidates = candidates(plan).length;
        if (sent < candidates) {
            String limit = "request_too_large: " + sent + " of " + candidates + " documents fit whyrank.max_request_size";
            said.put("status", "complete".equals(answer.status()) ? "partial" : answer.status());
            said.merge("reason", limit, (theirs, ours) -> ours + "; " + theirs);
        }
        int[] order = IntStream.concat(Arrays.stream(answer.order()), IntStream.range(sent, hits().length)).toArray();
        return page(plan).of(response, order, answer.hits(), summary(plan, said));
    }

    private SearchResponse engineOrder(Plan plan, String status, String reason) {
        Map<String, Object> said = new LinkedHashMap<>();
        said.put("status", status);
        said.put("reason", reason);
        said.put("ranking_id", null);
        said.put("window", candidates(plan).length);
        said.put("judged", 0);
        return page(plan).of(response, Page.engineOrder(hits().length), List.of(), summary(plan, said));
    }

    private SearchResponse broken(Plan plan, Exception error) {
        logger.warn("a search could not be rescored, and keeps the engine's order", error);
        try {
            return engineOrder(plan, "failed", "internal_error: an error inside WhyRank's plugin; the engine's log says more");
        } catch (RuntimeException e) {
            logger.warn("a page could not be cut", e);
            return response;
        }
    }

    private SearchResponse untouched(Bypass bypass) {
        Map<String, Object> said = new LinkedHashMap<>();
        said.put("status", "bypassed");
        said.put("reason", bypass.text());
        return Page.untouched(response, new RankingSummary(said), profiled);
    }

    private Page page(Plan plan) {
        return new Page(plan.from(), plan.size(), plan.source(), profiled);
    }

    private RankingSummary summary(Plan plan, Map<String, Object> said) {
        said.put("query", plan.query());
        said.put("took_ms", TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - began));
        return new RankingSummary(said);
    }

    private void answer(SearchResponse page) {
        for (SearchExtBuilder ext : page.getInternalResponse().getSearchExtBuilders()) {
            if (ext instanceof RankingSummary summary) {
                Map<String, Object> said = summary.members();
                parts.statistics().search((String) said.get("status"), (String) said.get("reason"));
            }
        }
        listener.onResponse(page);
    }
}
