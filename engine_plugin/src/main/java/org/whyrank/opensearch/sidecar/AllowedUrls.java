package org.whyrank.opensearch.sidecar;

import java.net.URI;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The sidecars that the node's owner lets searches be sent to ({@code whyrank.allowed_urls}).
 *
 * <p>Whoever may write a search pipeline could otherwise make the engine send documents anywhere. An entry is
 * {@code scheme://host[:port]}; the host may be {@code *.domain} or {@code *}, the port {@code *}.
 */
public final class AllowedUrls {
    /** The machine itself, any port. */
    public static final List<String> LOOPBACK = List.of("http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*");

    private static final Pattern ENTRY = Pattern.compile(
        "(?<scheme>https?)://(?<host>\\*|\\[[0-9a-fA-F:.]+]|(?:\\*\\.)?[\\w.-]+)(?::(?<port>\\d{1,5}|\\*))?/?"
    );

    private record Entry(String scheme, String host, Integer port) {
        boolean covers(URI url) {
            return scheme.equals(url.getScheme()) && coversHost(lower(url.getHost())) && (port == null || port == portOf(url));
        }

        private boolean coversHost(String name) {
            return host.equals("*") || (host.startsWith("*.") ? name.endsWith(host.substring(1)) : name.equals(host));
        }
    }

    private final List<Entry> entries;

    /** Throws IllegalArgumentException naming the entry that is none. */
    public AllowedUrls(List<String> entries) {
        this.entries = entries.stream().map(AllowedUrls::parse).toList();
    }

    /** Whether searches may be sent to this address, an absolute http or https URL with a host. */
    public boolean covers(URI url) {
        return entries.stream().anyMatch(entry -> entry.covers(url));
    }

    private static Entry parse(String text) {
        Matcher parts = ENTRY.matcher(text.strip());
        if (parts.matches() == false) {
            throw new IllegalArgumentException("not an address such as http://whyrank:8080 or http://127.0.0.1:*: [" + text + "]");
        }
        String port = parts.group("port");
        String scheme = parts.group("scheme");
        Integer number = port == null ? Integer.valueOf(defaultPort(scheme)) : port.equals("*") ? null : Integer.valueOf(port);
        return new Entry(scheme, lower(parts.group("host")), number);
    }

    private static int portOf(URI url) {
        return url.getPort() < 0 ? defaultPort(url.getScheme()) : url.getPort();
    }

    private static int defaultPort(String scheme) {
        return scheme.equals("https") ? 443 : 80;
    }

    private static String lower(String name) {
        return name.toLowerCase(Locale.ROOT);
    }
}
