package org.whyrank.opensearch.sidecar;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.whyrank.opensearch.sidecar.CircuitBreaker.State;

class CircuitBreakerTest {
    private long now;
    private final CircuitBreaker breaker = new CircuitBreaker(3, 100, 350, () -> now);

    private void fail(int times) {
        for (int i = 0; i < times; i++) {
            breaker.permit().failed();
        }
    }

    @Test
    void opensAfterFailuresInARow() {
        fail(2);
        breaker.permit().succeeded();
        fail(2);
        assertEquals(State.CLOSED, breaker.state());
        assertTrue(breaker.permit().failed(), "it tells that it opened");
        assertNull(breaker.permit());
        assertEquals(1, breaker.timesOpened());
    }

    @Test
    void oneCallProbesWhenTheTimeIsOver() {
        fail(3);
        now = 100;
        CircuitBreaker.Permit probe = breaker.permit();
        assertNotNull(probe);
        assertNull(breaker.permit(), "one at a time");
        probe.succeeded();
        assertEquals(State.CLOSED, breaker.state());
        assertNotNull(breaker.permit());
    }

    @Test
    void waitsTwiceAsLongAfterEachFailedProbe() {
        fail(3);
        for (long wait : new long[] { 100, 200, 350, 350 }) {
            now += wait - 1;
            assertNull(breaker.permit());
            now += 1;
            breaker.permit().failed();
        }
        now += 350;
        breaker.permit().succeeded();
        fail(3);
        now += 100;
        assertNotNull(breaker.permit(), "a success brings the first patience back");
    }

    @Test
    void callsFromBeforeItOpenedSayNothingNew() {
        CircuitBreaker.Permit slow = breaker.permit();
        CircuitBreaker.Permit good = breaker.permit();
        fail(3);
        slow.failed();
        good.succeeded();
        assertEquals(State.OPEN, breaker.state());
        assertEquals(1, breaker.timesOpened());
    }

    @Test
    void aProbeThatTellsNothingLeavesThePlaceToTheNext() {
        fail(3);
        now = 100;
        breaker.permit().unknown();
        assertNotNull(breaker.permit());
    }
}
