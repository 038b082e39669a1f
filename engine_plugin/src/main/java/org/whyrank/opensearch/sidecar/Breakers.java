package org.whyrank.opensearch.sidecar;

import java.net.URI;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;

import org.whyrank.opensearch.NodeSettings;
import org.whyrank.opensearch.sidecar.CircuitBreaker.State;

/** One breaker for each sidecar that this node has called. */
final class Breakers {
    /** A search can bring a pipeline of its own; addresses must not pile up. */
    private static final int MOST = 1_000;

    private final Map<String, CircuitBreaker> breakers = new ConcurrentHashMap<>();
    private final NodeSettings settings;

    Breakers(NodeSettings settings) {
        this.settings = settings;
    }

    CircuitBreaker of(URI url) {
        if (breakers.size() > MOST) {
            breakers.values().removeIf(breaker -> breaker.state() == State.CLOSED && breaker.failuresInARow() == 0);
        }
        return breakers.computeIfAbsent(
            url.getScheme() + "://" + url.getAuthority(),
            address -> new CircuitBreaker(
                settings.breakFailures(),
                settings.breakOpen().nanos(),
                settings.breakMost().nanos(),
                System::nanoTime
            )
        );
    }

    /** What is known of each sidecar, by address. */
    Map<String, Object> snapshot() {
        Map<String, Object> all = new TreeMap<>();
        breakers.forEach((address, breaker) -> {
            Map<String, Object> one = new LinkedHashMap<>();
            one.put("state", breaker.state().name().toLowerCase(Locale.ROOT));
            one.put("failures_in_a_row", breaker.failuresInARow());
            one.put("opened", breaker.timesOpened());
            all.put(address, one);
        });
        return all;
    }
}
