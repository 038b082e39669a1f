package org.whyrank.opensearch;

import java.util.List;
import java.util.function.Function;

import org.opensearch.common.settings.Setting;
import org.opensearch.common.settings.Setting.Property;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.common.unit.ByteSizeUnit;
import org.opensearch.core.common.unit.ByteSizeValue;
import org.whyrank.opensearch.sidecar.AllowedUrls;

/**
 * What the owner of a node decides (opensearch.yml), apart from what a search pipeline may say.
 *
 * @param allowedUrls   sidecars that a pipeline may name
 * @param mostInFlight  searches of this node that wait for sidecars at one time
 * @param requestBytes  the largest request body; documents beyond it keep their place
 * @param answerBytes   the largest answer that is read
 * @param breakFailures failed calls in a row that open a sidecar's breaker
 * @param breakOpen     how long it is open at first
 * @param breakMost     how long at most, after several failed probes
 */
public record NodeSettings(
    AllowedUrls allowedUrls,
    int mostInFlight,
    long requestBytes,
    long answerBytes,
    int breakFailures,
    TimeValue breakOpen,
    TimeValue breakMost
) {
    /** The switch for the whole cluster, changed by {@code PUT _cluster/settings} without a restart. */
    public static final Setting<Boolean> ENABLED =
        Setting.boolSetting("whyrank.enabled", true, Property.NodeScope, Property.Dynamic);

    /** Not dynamic: who may change cluster settings or pipelines must not choose where documents are sent. */
    static final Setting<List<String>> ALLOWED_URLS =
        Setting.listSetting("whyrank.allowed_urls", AllowedUrls.LOOPBACK, Function.identity(), Property.NodeScope);
    static final Setting<Integer> MAX_IN_FLIGHT =
        Setting.intSetting("whyrank.max_in_flight", 256, 1, 65_536, Property.NodeScope);
    /** Below the 10,000,000 bytes that a sidecar reads unless told otherwise. */
    static final Setting<ByteSizeValue> MAX_REQUEST = size("whyrank.max_request_size", 9);
    static final Setting<ByteSizeValue> MAX_ANSWER = size("whyrank.max_answer_size", 4);
    static final Setting<Integer> BREAKER_FAILURES =
        Setting.intSetting("whyrank.breaker.failures", 5, 1, 1_000, Property.NodeScope);
    static final Setting<TimeValue> BREAKER_OPEN = time("whyrank.breaker.open", 1);
    static final Setting<TimeValue> BREAKER_MOST = time("whyrank.breaker.open_max", 30);

    static final List<Setting<?>> ALL = List.of(
        ENABLED,
        ALLOWED_URLS,
        MAX_IN_FLIGHT,
        MAX_REQUEST,
        MAX_ANSWER,
        BREAKER_FAILURES,
        BREAKER_OPEN,
        BREAKER_MOST
    );

    /** Throws IllegalArgumentException naming a setting that is wrong: the node must not start with it. */
    static NodeSettings of(Settings settings) {
        return new NodeSettings(
            allowed(settings),
            MAX_IN_FLIGHT.get(settings),
            MAX_REQUEST.get(settings).getBytes(),
            MAX_ANSWER.get(settings).getBytes(),
            BREAKER_FAILURES.get(settings),
            BREAKER_OPEN.get(settings),
            BREAKER_MOST.get(settings)
        );
    }

    private static AllowedUrls allowed(Settings settings) {
        try {
            return new AllowedUrls(ALLOWED_URLS.get(settings));
        } catch (IllegalArgumentException e) {
            throw new IllegalArgumentException("[" + ALLOWED_URLS.getKey() + "]: " + e.getMessage(), e);
        }
    }

    private static Setting<ByteSizeValue> size(String key, long megabytes) {
        ByteSizeValue standard = new ByteSizeValue(megabytes, ByteSizeUnit.MB);
        ByteSizeValue least = new ByteSizeValue(1, ByteSizeUnit.KB);
        return Setting.byteSizeSetting(key, standard, least, new ByteSizeValue(1, ByteSizeUnit.GB), Property.NodeScope);
    }

    private static Setting<TimeValue> time(String key, long seconds) {
        return Setting.timeSetting(key, TimeValue.timeValueSeconds(seconds), TimeValue.timeValueMillis(1), Property.NodeScope);
    }
}
