package org.whyrank.opensearch.stats;

import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAccumulator;
import java.util.concurrent.atomic.LongAdder;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What this node has done since it started; counted without locks on the way of a search. */
public final class Statistics {
    /** A reason's code stands before its sentence. */
    private static final Pattern CODE = Pattern.compile("[a-z_]{1,40}");
    private static final int MOST_CODES = 64;
    private static final String OTHER = "other";

    private final LongAdder searches = new LongAdder();
    private final Map<String, LongAdder> statuses = new ConcurrentHashMap<>();
    private final Map<String, LongAdder> reasons = new ConcurrentHashMap<>();
    private final LongAdder calls = new LongAdder();
    private final LongAdder resent = new LongAdder();
    private final LongAdder nanos = new LongAdder();
    private final LongAccumulator mostNanos = new LongAccumulator(Math::max, 0);

    /** One search with a {@code whyrank} processor has been answered. */
    public void search(String status, String reason) {
        searches.increment();
        count(statuses, status);
        count(reasons, code(reason));
    }

    /** One call of a sidecar has ended, however. */
    public void call(long tookNanos) {
        calls.increment();
        nanos.add(tookNanos);
        mostNanos.accumulate(tookNanos);
    }

    /** A call was sent once more, over another connection. */
    public void resent() {
        resent.increment();
    }

    /** All counters by name, some of them maps of further ones. */
    public Map<String, Object> snapshot() {
        Map<String, Object> sidecar = new TreeMap<>();
        sidecar.put("calls", calls.sum());
        sidecar.put("resent", resent.sum());
        sidecar.put("took_ms_sum", TimeUnit.NANOSECONDS.toMillis(nanos.sum()));
        sidecar.put("took_ms_max", TimeUnit.NANOSECONDS.toMillis(mostNanos.get()));
        Map<String, Object> all = new TreeMap<>();
        all.put("searches", searches.sum());
        all.put("rescored", sum("complete") + sum("partial"));
        all.put("by_status", sums(statuses));
        all.put("by_reason", sums(reasons));
        all.put("sidecar", sidecar);
        return all;
    }

    private static String code(String reason) {
        Matcher code = CODE.matcher(reason == null ? "" : reason);
        return code.lookingAt() ? code.group() : OTHER;
    }

    private static void count(Map<String, LongAdder> counters, String name) {
        String key = counters.containsKey(name) || counters.size() < MOST_CODES ? name : OTHER;
        counters.computeIfAbsent(key, unused -> new LongAdder()).increment();
    }

    private long sum(String status) {
        LongAdder counted = statuses.get(status);
        return counted == null ? 0 : counted.sum();
    }

    private static Map<String, Object> sums(Map<String, LongAdder> counters) {
        Map<String, Object> sums = new TreeMap<>();
        counters.forEach((name, counted) -> sums.put(name, counted.sum()));
        return sums;
    }
}
