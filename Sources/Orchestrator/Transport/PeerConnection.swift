import FoundationEssentials
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import NIOCore

/// Where a host's peer service listens.
package struct PeerAddress: Sendable, Hashable {
    /// An IPv4 or IPv6 address, or a DNS name.
    package var host: String
    package var port: Int

    /// An address and port.
    package init(_ host: String, _ port: Int) {
        self.host = host
        self.port = port
    }
}

/// One connection to another host's daemon, greeted and verified.
package final class PeerConnection: Sendable {
    /// The peer's name, as its certificate says.
    package let host: String
    /// Where it was reached.
    package let address: PeerAddress
    /// What the peer said of itself.
    package let greeting: Greeting
    /// The protocol version that both sides speak.
    package let version: UInt32
    private let link: ClientLink

    private init(host: String, address: PeerAddress, greeting: Greeting, version: UInt32, link: ClientLink) {
        self.host = host
        self.address = address
        self.greeting = greeting
        self.version = version
        self.link = link
    }

    /// The services of the peer.
    package var peer: Smirun_V1_Peer.Client<ClusterTransport> { .init(wrapping: link.client) }
    /// For methods that no generated client has.
    var client: GRPCClient<ClusterTransport> { link.client }
    /// The store that the peer serves, where it does.
    package var store: Smirun_V1_Store.Client<ClusterTransport> { .init(wrapping: link.client) }

    /// True once the connection was closed; such a connection is not used again.
    package var isBroken: Bool { link.diary.hasEnded }

    /// Returns when the connection was closed, or when the task is cancelled.
    package func waitUntilBroken() async {
        await link.diary.waitForEnd()
    }

    /// Opens a hand-off.
    package func handoff() -> DuplexCall<Smirun_V1_HandoffRequest, Smirun_V1_HandoffReply> {
        let peer = peer
        return DuplexCall(to: "host \(host)") { try await peer.handoff(request: $0, onResponse: $1) }
    }

    /// Opens a relayed session.
    package func relay() -> DuplexCall<Smirun_V1_RelayRequest, Smirun_V1_RelayReply> {
        let peer = peer
        return DuplexCall(to: "host \(host)") { try await peer.relay(request: $0, onResponse: $1) }
    }

    /// A control request; an answer that is a failure is thrown.
    package func call(_ method: String, _ json: [UInt8], limit: Duration) async throws(OrchestratorError) -> [UInt8] {
        do {
            let request = Smirun_V1_PeerCallRequest.with {
                $0.method = method
                $0.json = Data(json)
            }
            let reply = try await peer.call(request, options: .limited(limit))
            switch reply.outcome {
            case .json(let json): return Array(json)
            case .failure(let failure): throw OrchestratorError(failure)
            case nil: return []
            }
        } catch {
            throw OrchestratorError(error, calling: "host \(host)")
        }
    }

    /// Lets calls under way end, but no longer than `grace`.
    package func close(grace: Duration = .seconds(1)) async {
        await link.close(grace: grace)
    }

    /// Connects, greets and checks that it is the right host, of this cluster, with a version that fits.
    static func open(
        _ host: String,
        at address: PeerAddress,
        as own: Greeting,
        identity: HostIdentity,
        limits: ConnectionLimits
    ) async throws(OrchestratorError) -> PeerConnection {
        let name = "host \(host)"
        let link: ClientLink
        do {
            link = try ClientLink.secure(address, host: host, identity: identity, limits: limits)
        } catch {
            throw OrchestratorError(error, calling: name)
        }
        do {
            let greeting = try await link.greet(own, limit: limits.connect)
            let version = try own.protocolVersion.agree(with: greeting.protocolVersion, at: name)
            return PeerConnection(host: host, address: address, greeting: greeting, version: version, link: link)
        } catch {
            await link.close(grace: .zero)
            throw link.explain(error, name: "\(name) (\(address.host) port \(address.port))")
        }
    }
}

/// Time limits of connections between hosts.
package struct ConnectionLimits: Sendable {
    /// For connecting, the handshake and the greeting together.
    package var connect: Duration
    /// For a unary call that names no limit.
    package var call: Duration

    /// Limits; the defaults suit hosts that are tens of milliseconds apart.
    package init(connect: Duration = .seconds(5), call: Duration = .seconds(10)) {
        self.connect = connect
        self.call = call
    }
}

extension CallOptions {
    /// Options with a time limit for the whole call.
    package static func limited(_ limit: Duration) -> CallOptions {
        var options = CallOptions.defaults
        options.timeout = limit
        return options
    }
}
