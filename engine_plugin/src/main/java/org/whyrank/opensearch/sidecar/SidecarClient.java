package org.whyrank.opensearch.sidecar;

import java.io.Closeable;
import java.io.IOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpConnectTimeoutException;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;

import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.secure_sm.AccessController;
import org.opensearch.threadpool.Scheduler.Cancellable;
import org.opensearch.threadpool.ThreadPool;
import org.whyrank.opensearch.NodeSettings;
import org.whyrank.opensearch.request.Texts;
import org.whyrank.opensearch.stats.Statistics;

/**
 * The node's one HTTP client: pooled connections, bounded calls, a breaker for each sidecar, and no thread that waits.
 *
 * <p>Every call ends within its time, in one outcome, on a thread of the generic pool.
 */
public final class SidecarClient implements Closeable {
    private static final Logger logger = LogManager.getLogger(SidecarClient.class);
    private static final Duration CONNECT = Duration.ofSeconds(1);
    private static final int SHOWN = 200;

    /**
     * One search to be rescored.
     *
     * @param hits      how many hits are in the body
     * @param timeoutMs when an answer is of no use any more, milliseconds from now
     * @param id        runs through the logs of engine and sidecar; null for one of the sidecar's own
     */
    public record Call(URI url, byte[] body, int hits, long timeoutMs, String id) {}

    private final ThreadPool pool;
    private final NodeSettings settings;
    private final Statistics statistics;
    private final Breakers breakers;
    private final Semaphore places;
    private final HttpClient http;

    public SidecarClient(ThreadPool pool, NodeSettings settings, Statistics statistics) {
        this.pool = pool;
        this.settings = settings;
        this.statistics = statistics;
        this.breakers = new Breakers(settings);
        this.places = new Semaphore(settings.mostInFlight());
        this.http = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .followRedirects(HttpClient.Redirect.NEVER)
            .proxy(HttpClient.Builder.NO_PROXY)
            .connectTimeout(CONNECT)
            .executor(this::run)
            .build();
    }

    /**
     * Runs the HTTP client's tasks, which open its connections.
     *
     * <p>Privileged, so that the permission is asked of this plugin (plugin-security.policy) and of nobody who happens to
     * stand above it; within a lambda of ours, so that it is asked of this plugin indeed.
     */
    private void run(Runnable task) {
        pool.generic().execute(() -> AccessController.doPrivileged(() -> task.run()));
    }

    /** Calls the sidecar; {@code then} gets the outcome, exactly once. Never throws, never waits. */
    public void rescore(Call call, Consumer<Outcome> then) {
        if (places.tryAcquire() == false) {
            then.accept(new Outcome.Failed("shed", "too_many_in_flight: " + settings.mostInFlight() + " calls are under way"));
            return;
        }
        CircuitBreaker.Permit permit = breakers.of(call.url).permit();
        if (permit == null) {
            places.release();
            then.accept(Outcome.Failed.because("circuit_open", "the sidecar failed several times in a row, and is left alone"));
            return;
        }
        new Exchange(call, permit, then).begin();
    }

    /** Sidecars and calls, for the node's statistics. */
    public Map<String, Object> snapshot() {
        Map<String, Object> now = new TreeMap<>();
        now.put("in_flight", settings.mostInFlight() - places.availablePermits());
        now.put("breakers", breakers.snapshot());
        return now;
    }

    @Override
    public void close() {
        http.shutdownNow();
    }

    /** One call, from its first byte to its outcome. */
    private final class Exchange {
        private final Call call;
        private final CircuitBreaker.Permit permit;
        private final Consumer<Outcome> then;
        private final long began = System.nanoTime();
        private final AtomicBoolean over = new AtomicBoolean();
        private volatile Cancellable timer;
        private volatile CompletableFuture<?> sending;

        Exchange(Call call, CircuitBreaker.Permit permit, Consumer<Outcome> then) {
            this.call = call;
            this.permit = permit;
            this.then = then;
        }

        void begin() {
            try {
                timer = pool.schedule(this::late, TimeValue.timeValueMillis(call.timeoutMs), ThreadPool.Names.GENERIC);
            } catch (RuntimeException e) {
                end(Outcome.Failed.because("internal_error", "the node is closing"), permit::unknown);
                return;
            }
            send(true);
        }

        private void send(boolean first) {
            CompletableFuture<HttpResponse<byte[]>> sent;
            try {
                HttpRequest request = request();
                sent = AccessController.doPrivileged(() -> http.sendAsync(request, info -> new BoundedBody(settings.answerBytes())));
            } catch (RuntimeException e) {
                end(Outcome.Failed.because("internal_error", "the call could not be made: " + e), permit::unknown);
                return;
            }
            sending = sent;
            sent.whenComplete((response, error) -> {
                try {
                    ended(response, error, first);
                } catch (RuntimeException e) {
                    logger.warn("an answer of the sidecar could not be read", e);
                    failed("internal_error", "the answer could not be read: " + e);
                }
            });
            if (over.get()) {
                sent.cancel(true);
            }
        }

        private void ended(HttpResponse<byte[]> response, Throwable error, boolean first) {
            if (error != null) {
                broken(error instanceof CompletionException && error.getCause() != null ? error.getCause() : error, first);
            } else if (response.statusCode() == 200) {
                answered(response.body());
            } else {
                refused(response.statusCode(), shown(response.body()));
            }
        }

        private HttpRequest request() {
            HttpRequest.Builder request = HttpRequest.newBuilder(call.url)
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofByteArray(call.body));
            if (call.id != null) {
                request.header("X-Opaque-Id", call.id);
            }
            return request.build();
        }

        private void answered(byte[] body) {
            try {
                RescoreAnswer answer = RescoreAnswer.read(body, call.hits);
                end(new Outcome.Answered(answer), permit::succeeded);
            } catch (WrongAnswerException e) {
                failed("bad_answer", e.getMessage());
            }
        }

        private void refused(int status, String body) {
            String said = "HTTP " + status + (body.isEmpty() ? "" : ": " + body);
            switch (status) {
                // It lives; this search is not to its liking.
                case 400, 413, 422 -> end(Outcome.Failed.because("sidecar_refused", said), permit::succeeded);
                default -> failed("sidecar_error", said);
            }
        }

        private void broken(Throwable error, boolean first) {
            boolean connected = error instanceof ConnectException == false && error instanceof HttpConnectTimeoutException == false;
            if (error instanceof BoundedBody.TooLongException) {
                failed("bad_answer", error.getMessage());
            } else if (first && connected && error instanceof IOException && over.get() == false) {
                // The sidecar may close a pooled connection at the moment that we use it.
                statistics.resent();
                send(false);
            } else {
                failed("sidecar_unreachable", what(error));
            }
        }

        private void late() {
            failed("sidecar_late", "no answer within " + call.timeoutMs + " ms");
            CompletableFuture<?> under = sending;
            if (under != null) {
                under.cancel(true);
            }
        }

        private void failed(String code, String sentence) {
            end(Outcome.Failed.because(code, sentence), () -> {
                if (permit.failed()) {
                    logger.warn("{} failed {} times in a row, last: {}: {}", call.url, settings.breakFailures(), code, sentence);
                }
            });
        }

        /** The first outcome is the one; `report` tells the breaker before anybody else knows. */
        private void end(Outcome outcome, Runnable report) {
            if (over.compareAndSet(false, true)) {
                if (timer != null) {
                    timer.cancel();
                }
                report.run();
                places.release();
                statistics.call(System.nanoTime() - began);
                then.accept(outcome);
            }
        }
    }

    private static String what(Throwable error) {
        if (error instanceof ConnectException) {
            return "nobody listens there, or not in time";
        }
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            if (cause instanceof SecurityException) {
                logger.warn("the engine does not let this plugin connect (plugin-security.policy)", cause);
                return "the engine's security policy does not let this plugin connect";
            }
        }
        return line(error.getMessage() == null ? error.toString() : error.getMessage());
    }

    private static String shown(byte[] body) {
        return line(new String(body, 0, Math.min(body.length, 4 * SHOWN), StandardCharsets.UTF_8));
    }

    private static String line(String text) {
        return Texts.first(text.replaceAll("\\s+", " ").strip(), SHOWN);
    }
}
