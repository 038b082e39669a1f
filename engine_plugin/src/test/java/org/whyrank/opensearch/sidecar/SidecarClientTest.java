package org.whyrank.opensearch.sidecar;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.threadpool.ThreadPool;
import org.whyrank.opensearch.NodeSettings;
import org.whyrank.opensearch.stats.Statistics;

/** The client against a real HTTP server of the JDK. */
class SidecarClientTest {
    private static final String GOOD = "{\"status\": \"complete\", \"reason\": \"all_judged\", \"order\": [0], \"hits\": [null]}";
    private static final long PATIENCE_S = 20;

    private final ThreadPool pool = new ThreadPool(Settings.builder().put("node.name", "test").build());
    private final Statistics statistics = new Statistics();
    private final ExecutorService workers = Executors.newCachedThreadPool();
    private final CountDownLatch held = new CountDownLatch(1);
    private final ConcurrentLinkedQueue<Integer> clientPorts = new ConcurrentLinkedQueue<>();
    private HttpServer server;
    private SidecarClient client;

    @BeforeEach
    void start() throws IOException {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.setExecutor(workers);
        server.start();
        client = client(8);
    }

    @AfterEach
    void stop() {
        held.countDown();
        client.close();
        server.stop(0);
        workers.shutdownNow();
        ThreadPool.terminate(pool, PATIENCE_S, TimeUnit.SECONDS);
    }

    private SidecarClient client(int mostInFlight) {
        TimeValue minute = TimeValue.timeValueMinutes(1);
        AllowedUrls all = new AllowedUrls(AllowedUrls.LOOPBACK);
        return new SidecarClient(pool, new NodeSettings(all, mostInFlight, 1_000_000, 1_000, 2, minute, minute), statistics);
    }

    private void serve(HttpHandler handler) {
        server.createContext("/", exchange -> {
            clientPorts.add(exchange.getRemoteAddress().getPort());
            exchange.getRequestBody().readAllBytes();
            handler.handle(exchange);
        });
    }

    private static void answer(HttpExchange exchange, int status, String body) throws IOException {
        byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(status, bytes.length == 0 ? -1 : bytes.length);
        try (OutputStream out = exchange.getResponseBody()) {
            out.write(bytes);
        }
    }

    private CompletableFuture<Outcome> send(int port, long timeoutMs) {
        CompletableFuture<Outcome> outcome = new CompletableFuture<>();
        URI url = URI.create("http://127.0.0.1:" + port + "/v1/rescore");
        client.rescore(new SidecarClient.Call(url, "{}".getBytes(StandardCharsets.UTF_8), 1, timeoutMs, "id"), outcome::complete);
        return outcome;
    }

    private Outcome call(long timeoutMs) throws InterruptedException, ExecutionException, TimeoutException {
        return send(server.getAddress().getPort(), timeoutMs).get(PATIENCE_S, TimeUnit.SECONDS);
    }

    private String reason(long timeoutMs) throws InterruptedException, ExecutionException, TimeoutException {
        return ((Outcome.Failed) call(timeoutMs)).reason();
    }

    @Test
    void reusesItsConnection() throws Exception {
        serve(exchange -> answer(exchange, 200, GOOD));
        for (int i = 0; i < 5; i++) {
            assertEquals("complete", ((Outcome.Answered) call(10_000)).answer().status());
        }
        assertEquals(1, clientPorts.stream().distinct().count());
        assertEquals(5L, ((Map<?, ?>) statistics.snapshot().get("sidecar")).get("calls"));
        assertEquals(0, client.snapshot().get("in_flight"));
    }

    @ParameterizedTest
    @CsvSource(
        {
            "200, 'not json',  'bad_answer: it is not a JSON object'",
            "400, 'no query',  'sidecar_refused: HTTP 400: no query'",
            "404, '',          'sidecar_error: HTTP 404'",
            "503, 'busy\n now', 'sidecar_error: HTTP 503: busy now'",
            "302, '',          'sidecar_error: HTTP 302'" }
    )
    void saysWhatWasWrong(int status, String body, String reason) throws Exception {
        serve(exchange -> answer(exchange, status, body));
        assertEquals(reason, reason(10_000));
    }

    @Test
    void readsNoMoreThanItsLimit() throws Exception {
        serve(exchange -> answer(exchange, 200, GOOD + " ".repeat(1_000)));
        assertEquals("bad_answer: it is longer than 1000 bytes", reason(10_000));
    }

    @Test
    void opensTheBreakerAndSaysSo() throws Exception {
        serve(exchange -> answer(exchange, 500, ""));
        reason(10_000);
        reason(10_000);
        assertTrue(reason(10_000).startsWith("circuit_open: "));
        assertEquals(2, clientPorts.size(), "the third call is not made");
        assertTrue(client.snapshot().toString().contains("state=open"), client.snapshot().toString());
    }

    @Test
    void aRefusedSearchDoesNotOpenIt() throws Exception {
        serve(exchange -> answer(exchange, 400, ""));
        for (int i = 0; i < 4; i++) {
            assertEquals("sidecar_refused: HTTP 400", reason(10_000));
        }
    }

    @Test
    void endsInTimeThoughTheAnswerDoesNot() throws Exception {
        serve(exchange -> {
            exchange.sendResponseHeaders(200, 0);
            exchange.getResponseBody().write('{');
            exchange.getResponseBody().flush();
            hold();
        });
        assertEquals("sidecar_late: no answer within 100 ms", reason(100));
        assertEquals(0, client.snapshot().get("in_flight"));
    }

    @Test
    void saysThatNobodyIsThere() throws Exception {
        int port = server.getAddress().getPort();
        server.stop(0);
        assertTrue(((Outcome.Failed) send(port, 10_000).get(PATIENCE_S, TimeUnit.SECONDS)).reason().startsWith("sidecar_unreachable: "));
        server = HttpServer.create();
    }

    @Test
    void shedsWhatIsTooMuch() throws Exception {
        client.close();
        client = client(1);
        serve(exchange -> {
            hold();
            answer(exchange, 200, GOOD);
        });
        CompletableFuture<Outcome> first = send(server.getAddress().getPort(), 60_000);
        Outcome.Failed second = (Outcome.Failed) call(60_000);
        assertEquals("shed", second.status());
        assertTrue(second.reason().startsWith("too_many_in_flight: "));
        held.countDown();
        assertEquals("complete", ((Outcome.Answered) first.get(PATIENCE_S, TimeUnit.SECONDS)).answer().status());
    }

    /** A pooled connection that the sidecar closes as we write to it: the search must not suffer. */
    @Test
    void sendsOnceMoreWhenTheConnectionEnds() throws Exception {
        try (ServerSocket listening = new ServerSocket(0, 5, InetAddress.getLoopbackAddress())) {
            CompletableFuture<Outcome> outcome = send(listening.getLocalPort(), 10_000);
            try (Socket cut = listening.accept()) {
                cut.getInputStream().read();
            }
            try (Socket kept = listening.accept()) {
                byte[] request = new byte[4_096];
                String said = new String(request, 0, kept.getInputStream().read(request), StandardCharsets.US_ASCII);
                assertTrue(said.contains("X-Opaque-Id: id"), said);
                String head = "HTTP/1.1 200 OK\r\nContent-Length: " + GOOD.length() + "\r\n\r\n";
                kept.getOutputStream().write((head + GOOD).getBytes(StandardCharsets.US_ASCII));
                assertTrue(outcome.get(PATIENCE_S, TimeUnit.SECONDS) instanceof Outcome.Answered);
            }
        }
        assertEquals(1L, ((Map<?, ?>) statistics.snapshot().get("sidecar")).get("resent"));
        assertEquals(List.of("closed"), states());
    }

    private List<Object> states() {
        Map<?, ?> breakers = (Map<?, ?>) client.snapshot().get("breakers");
        return breakers.values().stream().map(breaker -> (Object) ((Map<?, ?>) breaker).get("state")).toList();
    }

    private void hold() {
        try {
            held.await(PATIENCE_S, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
