import GRPCCore
import GRPCNIOTransportHTTP2Posix
import NIOCore

/// One listener with its gRPC services; every server answers greetings besides what it is given.
package final class ClusterServer: Sendable {
    /// Where and for whom a server listens.
    package enum Listener: Sendable {
        /// TCP with mutual TLS, for the other daemons of the cluster. Port 0 takes any.
        case peers(HostIdentity, address: String, port: Int)
        /// TCP with TLS, for hosts that have no certificate yet.
        case enrolment(HostIdentity, address: String, port: Int)
        /// A unix socket of mode 0600; its directory must be 0700.
        case unix(path: String)
    }

    private typealias Transport = HTTP2ServerTransport.Custom<SecureListener>

    private let server: GRPCServer<Transport>
    private let serving: Task<Void, any Error>
    private let keeper: ConnectionKeeper
    /// The TCP port; nil for a unix socket.
    package let port: Int?

    private init(
        server: GRPCServer<Transport>,
        serving: Task<Void, any Error>,
        keeper: ConnectionKeeper,
        port: Int?
    ) {
        self.server = server
        self.keeper = keeper
        self.serving = serving
        self.port = port
    }

    /// Starts listening; returns when connections are accepted.
    ///
    /// - Throws: `OrchestratorError` where the address cannot be taken.
    package static func start(
        _ listener: Listener,
        greeting: Greeting,
        services: [any RegistrableRPCService]
    ) async throws -> ClusterServer {
        if case .unix(let path) = listener { try await UnixSocket.prepare(path) }
        let factory = try listener.factory()
        let transport = Transport(listenerFactory: factory, config: TransportTuning.server())
        let server = GRPCServer(
            transport: transport,
            services: [GreetingService(own: greeting)] + services,
            interceptors: factory.registry.map { [PeerNaming(registry: $0)] } ?? []
        )
        let serving = Task { try await server.serve() }
        guard let address = await transport.listeningAddress else {
            server.beginGracefulShutdown()
            throw await OrchestratorError(cannotListen: listener.name, serving.result)
        }
        if case .unix(let path) = listener { try UnixSocket.restrict(path) }
        let port = address.ipv4?.port ?? address.ipv6?.port
        return ClusterServer(server: server, serving: serving, keeper: factory.keeper, port: port)
    }

    /// Lets calls under way end, but no longer than `grace`, then breaks them off; returns when nothing is left.
    package func stop(grace: Duration = .seconds(2)) async {
        server.beginGracefulShutdown()
        let (serving, keeper) = (serving, keeper)
        let breaking = Task {
            try await Task.sleep(for: grace)
            keeper.closeAll()
            // For handlers that do not notice that their caller is gone.
            try await Task.sleep(for: .seconds(1))
            serving.cancel()
        }
        _ = await serving.result
        breaking.cancel()
        // What was accepted too late to be served.
        keeper.closeAll()
    }

    /// Returns when the server has ended: after `stop`, or with the error that ended it.
    package func wait() async throws {
        try await serving.value
    }
}

extension ClusterServer.Listener {
    fileprivate func factory() throws -> SecureListener {
        switch self {
        case .peers(let identity, let address, let port):
            SecureListener(
                address: .tcp(try socketAddress(address, port)),
                tls: try TransportSecurity.serverContext(identity, clients: .required),
                registry: PeerRegistry()
            )
        case .enrolment(let identity, let address, let port):
            SecureListener(
                address: .tcp(try socketAddress(address, port)),
                tls: try TransportSecurity.serverContext(identity, clients: .none),
                registry: nil
            )
        case .unix(let path):
            SecureListener(address: .unix(path), tls: nil, registry: nil)
        }
    }

    private func socketAddress(_ address: String, _ port: Int) throws(OrchestratorError) -> NIOCore.SocketAddress {
        do {
            return try NIOCore.SocketAddress(ipAddress: address, port: port)
        } catch {
            throw OrchestratorError(
                .badArgument,
                cause: "'\(address)' is not an address to listen on",
                remedy: "give an IPv4 or IPv6 address of this host"
            )
        }
    }

    /// For messages.
    var name: String {
        switch self {
        case .peers(_, let address, let port), .enrolment(_, let address, let port): "\(address) port \(port)"
        case .unix(let path): path
        }
    }
}

extension OrchestratorError {
    fileprivate init(cannotListen name: String, _ result: Result<Void, any Error>) {
        let reason = if case .failure(let error) = result { "\(innermost(error))" } else { "it was stopped" }
        self.init(
            .internalError,
            cause: "cannot listen on \(name): \(reason)",
            remedy: "check that no other daemon runs here and that the address is this host's"
        )
    }
}

/// The error inside gRPC's wrappings that says what happened.
func innermost(_ error: any Error) -> any Error {
    switch error {
    case let error as RuntimeError: error.cause.map(innermost) ?? error
    case let error as RPCError: error.cause.map(innermost) ?? error
    default: error
    }
}
