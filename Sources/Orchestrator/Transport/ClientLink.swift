import GRPCCore
import GRPCNIOTransportHTTP2Posix
import NIOCore

/// A gRPC client with the task that runs it: what every kind of connection of ours is made of.
final class ClientLink: Sendable {
    let client: GRPCClient<ClusterTransport>
    let diary: ConnectionDiary
    private let running: Task<Void, any Error>

    private init(_ transport: ClusterTransport, _ diary: ConnectionDiary) {
        let client = GRPCClient(transport: transport)
        self.client = client
        self.diary = diary
        self.running = Task { try await client.runConnections() }
    }

    deinit {
        // A connection that is merely forgotten must not live on.
        client.beginGracefulShutdown()
        running.cancel()
    }

    /// Mutual TLS to a host of the cluster; connects with the first call.
    static func secure(
        _ address: PeerAddress,
        host: String,
        identity: HostIdentity,
        limits: ConnectionLimits
    ) throws -> ClientLink {
        let diary = ConnectionDiary()
        var config = TransportTuning.client()
        let context = try TransportSecurity.clientContext(identity)
        TransportSecurity.secure(&config, with: context, host: host, diary: diary)
        return try ClientLink(address, config, diary, limits)
    }

    /// TLS to an enrolment listener, whose certificates are judged by `verify`.
    static func joining(
        _ address: PeerAddress,
        limits: ConnectionLimits,
        verify: @escaping VerificationCallback
    ) throws -> ClientLink {
        let diary = ConnectionDiary()
        var config = TransportTuning.client()
        let context = try TransportSecurity.joiningContext()
        TransportSecurity.secure(&config, with: context, host: HostName.enrolment, diary: diary, verify: verify)
        return try ClientLink(address, config, diary, limits)
    }

    /// A unix socket.
    static func unix(path: String) throws -> ClientLink {
        let diary = ConnectionDiary()
        var config = TransportTuning.client()
        config.http2.authority = "localhost"
        config.channelDebuggingCallbacks.onCreateTCPConnection = { channel in
            diary.follow(channel)
            return channel.eventLoop.makeSucceededVoidFuture()
        }
        let transport = try ClusterTransport(
            target: .unixDomainSocket(path: path),
            transportSecurity: .plaintext,
            config: config
        )
        return ClientLink(transport, diary)
    }

    private convenience init(
        _ address: PeerAddress,
        _ config: ClusterTransport.Config,
        _ diary: ConnectionDiary,
        _ limits: ConnectionLimits
    ) throws {
        let target: any ResolvableTarget =
            switch try? NIOCore.SocketAddress(ipAddress: address.host, port: address.port) {
            case .v4: .ipv4(address: address.host, port: address.port)
            case .v6: .ipv6(address: address.host, port: address.port)
            default: .dns(host: address.host, port: address.port)
            }
        let transport = try ClusterTransport(
            target: target,
            // Secured by our own handler.
            transportSecurity: .customSecure,
            config: config,
            serviceConfig: TransportTuning.limits(unary: limits.call)
        )
        self.init(transport, diary)
    }

    /// Exchanges greetings; fails at once where the connection cannot be made.
    func greet(_ own: Greeting, limit: Duration) async throws -> Greeting {
        var options = CallOptions.limited(limit)
        options.waitForReady = false
        return Greeting(try await Smirun_V1_Greeting.Client(wrapping: client).hello(own.message, options: options))
    }

    /// Puts the connection's own reason into an error, where gRPC only says "unavailable".
    func explain(_ error: any Error, name: String) -> OrchestratorError {
        let error = OrchestratorError(error, calling: name)
        guard error.code == .hostDown, let reason = diary.reason else { return error }
        return OrchestratorError(
            .hostDown,
            cause: "\(name) cannot be used: \(reason)",
            remedy: "check that it is a running host of this cluster"
        )
    }

    /// Lets calls under way end, but no longer than `grace`, then breaks them off.
    func close(grace: Duration) async {
        client.beginGracefulShutdown()
        let running = running
        let limit = Task {
            try await Task.sleep(for: grace)
            running.cancel()
        }
        _ = await running.result
        limit.cancel()
    }
}
