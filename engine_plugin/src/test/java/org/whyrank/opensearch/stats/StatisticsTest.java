package org.whyrank.opensearch.stats;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Map;

import org.junit.jupiter.api.Test;

class StatisticsTest {
    private final Statistics statistics = new Statistics();

    @Test
    void countsSearchesByStatusAndReason() {
        statistics.search("complete", "all_judged");
        statistics.search("partial", "deadline: 1 of 2 judged within 300 ms");
        statistics.search("failed", "sidecar_late: no answer within 500 ms");
        statistics.search("failed", null);
        statistics.search("failed", "<script>");
        Map<String, Object> counted = statistics.snapshot();
        assertEquals(5L, counted.get("searches"));
        assertEquals(2L, counted.get("rescored"));
        assertEquals(Map.of("complete", 1L, "partial", 1L, "failed", 3L), counted.get("by_status"));
        assertEquals(Map.of("all_judged", 1L, "deadline", 1L, "sidecar_late", 1L, "other", 2L), counted.get("by_reason"));
    }

    @Test
    void countsCalls() {
        statistics.call(2_000_000);
        statistics.call(5_000_000);
        statistics.resent();
        Map<String, Object> expected = Map.of("calls", 2L, "resent", 1L, "took_ms_sum", 7L, "took_ms_max", 5L);
        assertEquals(expected, statistics.snapshot().get("sidecar"));
    }

    @Test
    void aSidecarCannotFillTheMemoryWithReasons() {
        for (int i = 0; i < 1_000; i++) {
            statistics.search("failed", "r" + "x".repeat(i % 30) + "_".repeat(i / 30));
        }
        assertEquals(65, ((Map<?, ?>) statistics.snapshot().get("by_reason")).size());
    }
}
