package org.whyrank.opensearch.sidecar;

/** How a call of a sidecar ended. */
public sealed interface Outcome {
    /** With an answer that can be used. */
    record Answered(RescoreAnswer answer) implements Outcome {}

    /**
     * Without one.
     *
     * @param status {@code failed}, or {@code shed} where this node has too many calls under way
     * @param reason a stable code, a colon, and a sentence for a person
     */
    record Failed(String status, String reason) implements Outcome {
        static Failed because(String code, String sentence) {
            return new Failed("failed", code + ": " + sentence);
        }
    }
}
