import java.io.ByteArrayInputStream;
import java.lang.reflect.Constructor;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.en.EnglishAnalyzer;
import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.cluster.node.DiscoveryNodes;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.features.NodeFeature;
import org.elasticsearch.index.IndexVersion;
import org.elasticsearch.index.analysis.AbstractIndexAnalyzerProvider;
import org.elasticsearch.index.analysis.AnalyzerProvider;
import org.elasticsearch.indices.analysis.AnalysisModule.AnalysisProvider;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.ActionPlugin;
import org.elasticsearch.plugins.AnalysisPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.plugins.PluginBundle;
import org.elasticsearch.plugins.PluginDescriptor;
import org.elasticsearch.plugins.PluginsLoader;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;
import org.elasticsearch.transport.netty4.Netty4Plugin;

/**
 * One real Elasticsearch node from the jars that Maven registries have (the server and its HTTP transport), for tests.
 *
 * <p>{@code java -cp 'jars/*:classes' EsDev FOLDER PORT CLUSTER}: data under FOLDER, HTTP on 127.0.0.1:PORT. The
 * distribution starts a node from plugin folders on disk; there is none in these jars, so the node is given its plugins
 * from the class path, through constructors that are not public. It is pinned to the version of the lock beside it.
 */
public final class EsDev {
    private static final Duration CLOSE = Duration.ofSeconds(10);

    private EsDev() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 3) {
            System.err.println("usage: EsDev FOLDER PORT CLUSTER");
            System.exit(2);
        }
        Path home = Files.createDirectories(Path.of(arguments[0]).toAbsolutePath());
        Settings settings = Settings.builder()
            .put("path.home", home.toString())
            .put("cluster.name", arguments[2])
            .put("node.name", "test")
            .put("discovery.type", "single-node")
            .put("network.host", "127.0.0.1")
            .put("http.port", Integer.parseInt(arguments[1]))
            .put("transport.port", "0")
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .build();
        LogConfigurator.configureWithoutConfig(settings);
        initialiseEarly("org.elasticsearch.ElasticsearchException", "org.apache.lucene.index.TermsEnum");
        Environment environment =
            InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), home.resolve("config"), () -> "test");
        Node node = new Node(environment, fromClassPath(home, List.of(Netty4Plugin.class, Missing.class)));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> closeInTime(node)));
        node.start();
        Thread.currentThread().join();
    }

    /** While there is one thread: when several need these classes first, their initialisers can wait for each other. */
    private static void initialiseEarly(String... classes) throws ClassNotFoundException {
        for (String name : classes) {
            Class.forName(name);
        }
    }

    /** A node that does not close must not keep the process alive. */
    private static void closeInTime(Node node) {
        Thread closer = new Thread(() -> {
            try {
                node.close();
                node.awaitClose(CLOSE.toSeconds(), TimeUnit.SECONDS);
            } catch (Exception e) {
                e.printStackTrace();
            }
        });
        closer.setDaemon(true);
        closer.start();
        try {
            closer.join(CLOSE.toMillis());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** The loader that a node asks for its plugins, filled with classes that are here already. */
    private static PluginsLoader fromClassPath(Path home, List<Class<? extends Plugin>> plugins) throws Exception {
        Constructor<?> bundleOf = opened(PluginBundle.class.getDeclaredConstructor(PluginDescriptor.class, Path.class));
        Class<?> layerClass = Class.forName("org.elasticsearch.plugins.PluginsLoader$LoadedPluginLayer");
        Constructor<?> layerOf = opened(layerClass.getDeclaredConstructors()[0]);
        Constructor<?> loaderOf = opened(PluginsLoader.class.getDeclaredConstructor(Set.class, Set.class, Map.class));
        Path noJars = Files.createDirectories(home.resolve("no-jars"));
        Set<Object> bundles = new HashSet<>();
        Map<String, Object> layers = new HashMap<>();
        for (Class<? extends Plugin> plugin : plugins) {
            Object bundle = bundleOf.newInstance(descriptor(plugin), noJars);
            ClassLoader loader = plugin.getClassLoader();
            bundles.add(bundle);
            layers.put(
                plugin.getSimpleName(),
                layerOf.newInstance(bundle, loader, ModuleLayer.boot(), loader, ModuleLayer.boot())
            );
        }
        return (PluginsLoader) loaderOf.newInstance(bundles, Set.of(), layers);
    }

    private static Constructor<?> opened(Constructor<?> constructor) {
        constructor.setAccessible(true);
        return constructor;
    }

    private static PluginDescriptor descriptor(Class<? extends Plugin> plugin) throws Exception {
        String properties = """
            name=%1$s
            description=%1$s
            version=%2$s
            elasticsearch.version=%2$s
            java.version=21
            classname=%3$s
            """.formatted(plugin.getSimpleName(), Build.current().version(), plugin.getName());
        return PluginDescriptor.readInternalDescriptorFromStream(
            new ByteArrayInputStream(properties.getBytes(StandardCharsets.UTF_8))
        );
    }

    /** What clients expect, and modules of the distribution bring: {@code GET /}, and the english analyzer. */
    public static final class Missing extends Plugin implements ActionPlugin, AnalysisPlugin {
        @Override
        public Collection<RestHandler> getRestHandlers(
            RestHandlersServices services, Supplier<DiscoveryNodes> nodes, Predicate<NodeFeature> features
        ) {
            return List.of(new Root());
        }

        @Override
        public Map<String, AnalysisProvider<AnalyzerProvider<? extends Analyzer>>> getAnalyzers() {
            // One for each index: an index closes its analyzers when it is closed.
            return Map.of("english", (index, environment, name, settings) -> new English(name));
        }
    }

    private static final class English extends AbstractIndexAnalyzerProvider<EnglishAnalyzer> {
        private final EnglishAnalyzer analyzer = new EnglishAnalyzer();

        English(String name) {
            super(name);
        }

        @Override
        public EnglishAnalyzer get() {
            return analyzer;
        }
    }

    private static final class Root extends BaseRestHandler {
        @Override
        public String getName() {
            return "test_root";
        }

        @Override
        public List<Route> routes() {
            return List.of(new Route(RestRequest.Method.GET, "/"), new Route(RestRequest.Method.HEAD, "/"));
        }

        @Override
        protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
            String cluster = client.settings().get("cluster.name");
            return channel -> {
                Build build = Build.current();
                var body = channel.newBuilder()
                    .startObject()
                    .field("name", "test")
                    .field("cluster_name", cluster)
                    .field("cluster_uuid", "_na_")
                    .startObject("version")
                    .field("number", build.version())
                    .field("build_flavor", "default")
                    .field("build_type", build.type().displayName())
                    .field("build_hash", build.hash())
                    .field("build_date", build.date())
                    .field("build_snapshot", build.isSnapshot())
                    .field("lucene_version", IndexVersion.current().luceneVersion().toString())
                    .field("minimum_wire_compatibility_version", build.minWireCompatVersion())
                    .field("minimum_index_compatibility_version", build.minIndexCompatVersion())
                    .endObject()
                    .field("tagline", "You Know, for Search")
                    .endObject();
                channel.sendResponse(new RestResponse(RestStatus.OK, body));
            };
        }
    }
}
