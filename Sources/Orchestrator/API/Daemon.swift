import Foundation
import GRPCCore
import Isolation
import LinuxSystem
import Logging

/// The host agent's process: opens what it needs, serves, and leaves the sandboxes running when it ends.
package struct Daemon: Sendable {
    let configuration: HostConfiguration
    let build: String

    /// A daemon that has not begun.
    package init(configuration: HostConfiguration, build: String) {
        self.configuration = configuration
        self.build = build
    }

    /// Serves until SIGTERM or SIGINT.
    package func run() async throws {
        try OrchestratorError.requireRoot("the daemon makes namespaces and mounts, which only root can")
        let signals = TerminationSignals()
        // Blocking work has threads of its own, which come and go: an arena for each of them would keep what the
        // compression of a hand-off took.
        ProgramMemory.limitArenas(2)
        // A busy host must not make freezes longer.
        Urgency.raiseThisProcess()
        let paths = configuration.paths
        Urgency.keepNote(at: paths.state + "/" + Urgency.noteName)
        let membership = try Membership.load(paths)
        let identity = try HostIdentity.load(from: Membership.directory(paths))
        var logger = Logger(label: "smirun")
        logger.logLevel = Logger.Level(rawValue: configuration.logLevel) ?? .info
        logger[metadataKey: "host"] = "\(identity.host)"

        let connections = PeerConnections(identity: identity, build: build)
        let owned = membership.servesStore ? try SQLiteStore(path: paths.state + "/cluster.sqlite") : nil
        defer { owned?.close() }
        let store: any ClusterStore =
            owned
            ?? RemoteStore(
                connections: connections,
                host: membership.store.name,
                at: PeerAddress(membership.store.address, membership.store.port)
            )
        let directory = Membership.directory(paths)
        let authority =
            CertificateAuthority.exists(in: directory) ? try CertificateAuthority.load(from: directory) : nil
        let tokens = TokenMaker(authority: authority, tokens: JoinTokens(store: store), membership: membership)
        let parts = try DaemonParts(
            configuration: configuration,
            membership: membership,
            store: store,
            connections: connections,
            tokens: tokens,
            logger: logger
        )
        try await parts.sandboxes.prepare()

        let greeting = Greeting(host: identity.host, build: build, cluster: identity.cluster)
        let memory = parts.memory
        let agent = parts.agent
        await memory.onLoss { await agent.memoryLost($0, cause: $1.cause, isLacking: $2) }
        let epochs = EpochService { try await memory.follow($0, $1) }
        var services: [any RegistrableRPCService] = [parts.peerService, epochs]
        if let owned { services.append(StoreService(owned)) }
        let peers = try await ClusterServer.start(
            .peers(identity, address: membership.host.address, port: membership.host.port),
            greeting: greeting,
            services: services
        )
        let enrolment = try await startEnrolment(tokens, identity, greeting)
        let routes = Task { await parts.routes.follow(store) }
        let control = try await ControlServer.start(
            path: paths.run + "/smirun.sock",
            greeting: greeting,
            handler: ControlHandler(dispatcher: parts.dispatcher)
        )
        let broker = try SessionBroker(path: paths.run + "/session.sock", resolver: parts.resolver)
        parts.gate.use(broker)
        broker.start()
        try await parts.agent.join()
        let roaming = Task { await parts.roaming.run() }
        logger.info("ready", metadata: ["address": "\(membership.host.address)", "pid": "\(currentProcess())"])
        ProgramText.letGo()

        await signals.wait()
        logger.info("ending; the sandboxes go on")
        broker.stop()
        routes.cancel()
        roaming.cancel()
        await roaming.value
        await control.stop()
        await enrolment?.stop()
        await peers.stop()
        await parts.agent.close()
        await connections.close()
    }

    /// The host that keeps the CA's key lets others join.
    private func startEnrolment(
        _ tokens: TokenMaker,
        _ identity: HostIdentity,
        _ greeting: Greeting
    ) async throws -> ClusterServer? {
        guard let authority = tokens.authority else { return nil }
        let membership = tokens.membership
        try await tokens.tokens.register(identity)
        let service = EnrolmentService(authority: authority, tokens: tokens.tokens) { _, _ in
            try encode(membership.store)
        }
        return try await ClusterServer.start(
            .enrolment(
                authority.makeEnrolmentIdentity(),
                address: membership.host.address,
                port: membership.enrolmentPort
            ),
            greeting: greeting,
            services: [service]
        )
    }
}

/// The parts of one daemon and how they hang together.
struct DaemonParts {
    let sandboxes: SandboxHost
    let agent: HostAgent
    let dispatcher: ControlDispatcher
    let peerService: PeerService
    let resolver: SessionResolver
    let gate: BrokerGate
    let routes: RouteKeeper
    let memory: MemoryService
    let roaming: RoamingService

    init(
        configuration: HostConfiguration,
        membership: Membership,
        store: any ClusterStore,
        connections: PeerConnections,
        tokens: TokenMaker,
        logger: Logger
    ) throws {
        let paths = configuration.paths
        let images = HostImages(store: ImageStore(directory: paths.images))
        let transfer = ImageTransfer(images: images.store)
        let network = PeerNetwork(connections: connections, images: transfer)
        sandboxes = SandboxHost(paths: paths)
        gate = BrokerGate()
        routes = RouteKeeper(host: membership.host.name, logger: logger)
        let events = EventLog(host: membership.host.name, store: store, logger: logger)
        let memory = MemoryService(
            MemoryService.Surroundings(
                host: membership.host.name,
                paths: paths,
                sandboxes: sandboxes,
                store: store,
                open: { try await network.connection($0).epochs() },
                status: { try await network.status(of: $0, at: $1) },
                fetchImage: { await Self.fetch($0, from: $1, images: images, store: store, network: network) },
                events: events,
                logger: logger
            )
        )
        self.memory = memory
        let agent = HostAgent(
            HostAgent.Surroundings(
                host: membership.host,
                sandboxes: sandboxes,
                images: images,
                store: store,
                peers: network,
                routes: routes,
                sessions: gate,
                events: events,
                memory: memory,
                logger: logger
            )
        )
        self.agent = agent
        routes.unless { await agent.isHere($0) }
        let placement = PlanKeeper(
            host: membership.host.name,
            sandboxes: sandboxes,
            store: store,
            memory: memory,
            logger: logger
        )
        // The host that keeps the store decides for all: without the store nothing can be moved anyway.
        roaming = try RoamingService(
            configuration: configuration,
            decider: membership.store,
            agent: agent,
            placement: placement
        )
        dispatcher = ControlDispatcher(
            agent: agent,
            placement: placement,
            roaming: roaming,
            makeToken: { try await tokens.make() }
        )
        let relay = SessionRelay(agent: agent)
        resolver = SessionResolver(agent: agent, relay: relay, peers: network)
        peerService = PeerService(agent: agent, dispatcher: dispatcher, sessions: relay, images: transfer)
    }

    /// Brings the base image of a replica here ahead of time; what cannot be fetched now comes with the SMI.
    private static func fetch(
        _ digest: String,
        from owner: String,
        images: HostImages,
        store: any ClusterStore,
        network: PeerNetwork
    ) async {
        guard await !images.has(digest), let entry = try? await store.get(HostRecord.key(owner)),
            let host = try? decode(HostRecord.self, entry.value)
        else { return }
        try? await network.fetchImage(digest, from: host)
    }
}
