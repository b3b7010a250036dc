import GRPCCore
import Glibc
import Isolation
import LinuxSystem
import NIOCore
import NIOPosix

/// Carries sessions' bytes between the host that a command line speaks to and the host that owns the SMI.
struct SessionRelay: Sendable {
    let agent: HostAgent

    private typealias Socket = NIOAsyncChannel<ByteBuffer, ByteBuffer>

    /// Serves the owner's side: connects to smi-init and passes bytes both ways until either side ends.
    func serve(
        _ request: RPCAsyncSequence<Smirun_V1_RelayRequest, any Error>,
        _ response: RPCWriter<Smirun_V1_RelayReply>
    ) async throws {
        var messages = request.makeAsyncIterator()
        guard case .open(let open)? = try await messages.next()?.message else { return }
        let connection: Descriptor
        do {
            guard case .here(let descriptor) = try await agent.connectSession(open.user) else {
                throw OrchestratorError(
                    .notRunning,
                    cause: "\(open.user) moved on in the meantime",
                    remedy: "run the command again"
                )
            }
            connection = descriptor
        } catch {
            return try await response.write(.with { $0.failure = OrchestratorError(wrapping: error).message })
        }
        try await response.write(.with { $0.opened = Smirun_V1_RelayOpened() })
        let socket = try await Self.wrap(connection)
        let rest = UnsafeTransfer(messages)
        try await socket.executeThenClose { inbound, outbound in
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    var messages = rest.value
                    while let message = try? await messages.next() {
                        if case .data(let data) = message.message {
                            guard (try? await outbound.write(ByteBuffer(bytes: data))) != nil else { break }
                        }
                    }
                }
                group.addTask {
                    do {
                        for try await buffer in inbound {
                            try await response.write(.with { $0.data = .init(buffer.readableBytesView) })
                        }
                    } catch {
                        // The client asks again and resumes where it was.
                    }
                }
                // Either end is the end: a session is resumed on a new connection, never on half of one.
                await group.next()
                group.cancelAll()
            }
        }
    }

    /// Opens a relayed connection to an SMI that another host owns.
    ///
    /// - Returns: A socket whose other end reaches smi-init.
    func open(_ user: String, through connection: PeerConnection) async throws -> Descriptor {
        let call = connection.relay()
        try await call.send(.with { $0.open.user = user })
        switch try await call.next()?.message {
        case .opened: break
        case .failure(let failure): throw OrchestratorError(failure)
        default:
            throw OrchestratorError(
                .hostDown,
                cause: "host \(connection.host) ended the relay",
                remedy: "run the command again"
            )
        }
        let (mine, theirs) = try DescriptorPassing.socketPair(Int32(SOCK_STREAM.rawValue))
        let socket = try await Self.wrap(mine)
        Task { try await Self.pump(socket, call) }
        return theirs
    }

    private static func pump(
        _ socket: Socket,
        _ call: DuplexCall<Smirun_V1_RelayRequest, Smirun_V1_RelayReply>
    ) async throws {
        defer { call.cancel() }
        try await socket.executeThenClose { inbound, outbound in
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    do {
                        for try await buffer in inbound {
                            try await call.send(.with { $0.data = .init(buffer.readableBytesView) })
                        }
                    } catch {
                        // Ends the relay; the command line dials again.
                    }
                }
                group.addTask {
                    while let reply = try? await call.next() {
                        guard case .data(let data) = reply.message else { continue }
                        guard (try? await outbound.write(ByteBuffer(bytes: data))) != nil else { break }
                    }
                }
                await group.next()
                group.cancelAll()
            }
        }
    }

    private static func wrap(_ descriptor: Descriptor) async throws -> Socket {
        try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .withConnectedSocket(descriptor.release()) { channel in
                channel.eventLoop.makeCompletedFuture { try Socket(wrappingChannelSynchronously: channel) }
            }
    }
}

/// Hands a value that is used by one task at a time to another task.
private struct UnsafeTransfer<Value>: @unchecked Sendable {
    // SAFETY: the giver does not touch the value again.
    let value: Value

    init(_ value: Value) {
        self.value = value
    }
}
