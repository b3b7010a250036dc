import FoundationEssentials
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import NIOPosix

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

    private let server: GRPCServer<HTTP2ServerTransport.Posix>
    private let serving: Task<Void, any Error>
    /// The TCP port; nil for a unix socket.
    package let port: Int?

    private init(
        server: GRPCServer<HTTP2ServerTransport.Posix>,
        serving: Task<Void, any Error>,
        port: Int?
    ) {
        self.server = server
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
        let transport = try makeTransport(listener)
        let server = GRPCServer(
            transport: transport,
            services: [GreetingService(own: greeting)] + services
        )
        let serving = Task { try await server.serve() }
        do {
            let address = try await transport.listeningAddress
            if case .unix(let path) = listener { try UnixSocket.restrict(path) }
            return ClusterServer(server: server, serving: serving, port: address.ipv4?.port ?? address.ipv6?.port)
        } catch {
            server.beginGracefulShutdown()
            serving.cancel()
            // The reason of a failed bind comes out of `serve`, not out of the address.
            let reason: any Error
            if case .failure(let failure) = await serving.result { reason = failure } else { reason = error }
            throw OrchestratorError(
                .internalError,
                cause: "cannot listen on \(listener.name): \(innermost(reason))",
                remedy: "check that no other daemon runs here and that the address is this host's"
            )
        }
    }

    /// Lets calls under way end, but no longer than `grace`, then breaks them off. Returns when nothing is left.
    package func stop(grace: Duration = .seconds(2)) async {
        server.beginGracefulShutdown()
        let serving = serving
        let limit = Task {
            try await Task.sleep(for: grace)
            serving.cancel()
        }
        _ = await serving.result
        limit.cancel()
    }

    /// Returns when the server has ended: after `stop`, or with the error that ended it.
    package func wait() async throws {
        try await serving.value
    }

    private static func makeTransport(_ listener: Listener) throws -> HTTP2ServerTransport.Posix {
        var config = TransportTuning.server()
        let address: GRPCNIOTransportCore.SocketAddress
        switch listener {
        case .peers(let identity, let host, let port):
            TransportSecurity.secure(&config, with: try TransportSecurity.serverContext(identity, clients: .required))
            address = socketAddress(host, port)
        case .enrolment(let identity, let host, let port):
            TransportSecurity.secure(&config, with: try TransportSecurity.serverContext(identity, clients: .none))
            address = socketAddress(host, port)
        case .unix(let path):
            address = .unixDomainSocket(path: path)
        }
        // Plain to gRPC: TLS is a handler of ours in front of it.
        return HTTP2ServerTransport.Posix(address: address, transportSecurity: .plaintext, config: config)
    }

    private static func socketAddress(_ host: String, _ port: Int) -> GRPCNIOTransportCore.SocketAddress {
        host.contains(":") ? .ipv6(host: host, port: port) : .ipv4(host: host, port: port)
    }
}

extension ClusterServer.Listener {
    /// For messages.
    var name: String {
        switch self {
        case .peers(_, let address, let port), .enrolment(_, let address, let port): "\(address) port \(port)"
        case .unix(let path): path
        }
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
