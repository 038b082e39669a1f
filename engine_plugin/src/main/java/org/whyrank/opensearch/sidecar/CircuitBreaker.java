package org.whyrank.opensearch.sidecar;

import java.util.function.LongSupplier;

/**
 * Keeps searches from waiting for a sidecar that has just failed several of them in a row.
 *
 * <p>Closed: every call passes. Open, after {@code failures} failed calls in a row: none does, for {@code openNanos},
 * which doubles with each failed probe up to {@code mostNanos}. Half-open, after that: one call at a time probes.
 */
public final class CircuitBreaker {
    /** What the breaker does with the next call. */
    public enum State {
        CLOSED,
        OPEN,
        HALF_OPEN
    }

    /** The right to one call, which must report how it went, once. */
    public final class Permit {
        private final boolean probe;

        private Permit(boolean probe) {
            this.probe = probe;
        }

        /** The sidecar is well. */
        public void succeeded() {
            synchronized (CircuitBreaker.this) {
                if (probe || state == State.CLOSED) {
                    state = State.CLOSED;
                    inARow = 0;
                    patience = openNanos;
                    probing = false;
                }
            }
        }

        /** The sidecar did not answer, or nothing that can be used. Gives whether this opened the breaker. */
        public boolean failed() {
            synchronized (CircuitBreaker.this) {
                if (probe) {
                    patience = Math.min(patience * 2, mostNanos);
                    open();
                    return false;
                }
                // A call from before the breaker opened says nothing new.
                if (state == State.CLOSED && ++inARow >= failures) {
                    open();
                    return true;
                }
                return false;
            }
        }

        /** The call ended without telling anything about the sidecar. */
        public void unknown() {
            synchronized (CircuitBreaker.this) {
                if (probe) {
                    probing = false;
                }
            }
        }
    }

    private final int failures;
    private final long openNanos;
    private final long mostNanos;
    private final LongSupplier clock;

    private State state = State.CLOSED;
    private int inARow;
    private long patience;
    private long until;
    private boolean probing;
    private long opened;

    /** {@code clock} gives nanoseconds that never go back. */
    public CircuitBreaker(int failures, long openNanos, long mostNanos, LongSupplier clock) {
        this.failures = failures;
        this.openNanos = openNanos;
        this.mostNanos = mostNanos;
        this.clock = clock;
        this.patience = openNanos;
    }

    /** The right to call the sidecar now; null when there is none. */
    public synchronized Permit permit() {
        if (state == State.CLOSED) {
            return new Permit(false);
        }
        if (probing || clock.getAsLong() - until < 0) {
            return null;
        }
        state = State.HALF_OPEN;
        probing = true;
        return new Permit(true);
    }

    public synchronized State state() {
        return state;
    }

    /** Failed calls since the last one that went well, while closed. */
    public synchronized int failuresInARow() {
        return inARow;
    }

    /** How often it has opened, failed probes included. */
    public synchronized long timesOpened() {
        return opened;
    }

    private void open() {
        state = State.OPEN;
        until = clock.getAsLong() + patience;
        probing = false;
        opened++;
    }
}
