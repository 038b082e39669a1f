package org.whyrank.opensearch;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

import org.opensearch.action.ActionRequest;
import org.opensearch.action.support.ActionFilter;
import org.opensearch.cluster.metadata.IndexNameExpressionResolver;
import org.opensearch.cluster.node.DiscoveryNodes;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.settings.ClusterSettings;
import org.opensearch.common.settings.IndexScopedSettings;
import org.opensearch.common.settings.Setting;
import org.opensearch.common.settings.Settings;
import org.opensearch.common.settings.SettingsFilter;
import org.opensearch.core.ParseField;
import org.opensearch.core.action.ActionResponse;
import org.opensearch.core.common.io.stream.NamedWriteableRegistry;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.env.Environment;
import org.opensearch.env.NodeEnvironment;
import org.opensearch.plugins.ActionPlugin;
import org.opensearch.plugins.Plugin;
import org.opensearch.plugins.SearchPipelinePlugin;
import org.opensearch.plugins.SearchPlugin;
import org.opensearch.repositories.RepositoriesService;
import org.opensearch.rest.RestController;
import org.opensearch.rest.RestHandler;
import org.opensearch.script.ScriptService;
import org.opensearch.search.SearchExtBuilder;
import org.opensearch.search.pipeline.Processor;
import org.opensearch.search.pipeline.SearchRequestProcessor;
import org.opensearch.search.pipeline.SearchResponseProcessor;
import org.opensearch.threadpool.ThreadPool;
import org.opensearch.transport.client.Client;
import org.opensearch.watcher.ResourceWatcherService;
import org.whyrank.opensearch.hits.RankingSummary;
import org.whyrank.opensearch.pipeline.Parts;
import org.whyrank.opensearch.pipeline.Processors;
import org.whyrank.opensearch.pipeline.SecondChance;
import org.whyrank.opensearch.request.SearchOptions;
import org.whyrank.opensearch.sidecar.SidecarClient;
import org.whyrank.opensearch.stats.RestStats;
import org.whyrank.opensearch.stats.Statistics;
import org.whyrank.opensearch.stats.StatsAction;
import org.whyrank.opensearch.stats.TransportStatsAction;

/** Explainable reranking inside OpenSearch: joins the parts, and nothing else. */
public final class WhyRankPlugin extends Plugin implements SearchPipelinePlugin, SearchPlugin, ActionPlugin {
    private final NodeSettings settings;
    private final Statistics statistics = new Statistics();
    private SidecarClient client;
    private Processors processors;
    private SecondChance secondChance;

    /** Throws IllegalArgumentException naming a node setting that is wrong. */
    public WhyRankPlugin(Settings settings) {
        this.settings = NodeSettings.of(settings);
    }

    @Override
    public Collection<Object> createComponents(
        Client engine,
        ClusterService cluster,
        ThreadPool pool,
        ResourceWatcherService watcher,
        ScriptService scripts,
        NamedXContentRegistry xContents,
        Environment environment,
        NodeEnvironment nodeEnvironment,
        NamedWriteableRegistry writeables,
        IndexNameExpressionResolver resolver,
        Supplier<RepositoriesService> repositories
    ) {
        client = new SidecarClient(pool, settings, statistics);
        processors = new Processors(new Parts(settings, pool, client, statistics, cluster, resolver, writeables));
        secondChance = new SecondChance(engine, cluster, pool.getThreadContext());
        return List.of(statistics, client);
    }

    @Override
    public Map<String, Processor.Factory<SearchRequestProcessor>> getRequestProcessors(Parameters parameters) {
        return processors.ofRequests();
    }

    @Override
    public Map<String, Processor.Factory<SearchResponseProcessor>> getResponseProcessors(Parameters parameters) {
        return processors.ofResponses();
    }

    @Override
    public List<SearchExtSpec<?>> getSearchExts() {
        return List.of(new SearchExtSpec<>(new ParseField(SearchOptions.NAME), SearchOptions::new, SearchOptions::fromXContent));
    }

    @Override
    public List<NamedWriteableRegistry.Entry> getNamedWriteables() {
        return List.of(new NamedWriteableRegistry.Entry(SearchExtBuilder.class, RankingSummary.NAME, RankingSummary::new));
    }

    @Override
    public List<ActionHandler<? extends ActionRequest, ? extends ActionResponse>> getActions() {
        return List.of(new ActionHandler<>(StatsAction.INSTANCE, TransportStatsAction.class));
    }

    @Override
    public List<ActionFilter> getActionFilters() {
        return List.of(secondChance);
    }

    @Override
    public List<RestHandler> getRestHandlers(
        Settings nodeSettings,
        RestController controller,
        ClusterSettings clusterSettings,
        IndexScopedSettings indexSettings,
        SettingsFilter filter,
        IndexNameExpressionResolver resolver,
        Supplier<DiscoveryNodes> nodes
    ) {
        return List.of(new RestStats());
    }

    @Override
    public List<Setting<?>> getSettings() {
        return NodeSettings.ALL;
    }

    @Override
    public void close() {
        if (client != null) {
            client.close();
        }
    }
}
