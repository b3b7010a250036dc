import Logging
import NIOCore
import NIOPosix

/// The RADIUS accounting server (RFC 2866) on a UDP socket.
package struct RadiusServer: Sendable {
    private let channel: any Channel

    /// Binds the socket and starts to answer.
    ///
    /// `listen`: `ADDRESS:PORT`; port 0 takes a free one, see `address`.
    /// `offer`: takes an event or refuses it; called on the event loop, so it must not block.
    /// Throws `RoamingError` where the address cannot be bound.
    package static func start(
        listen: ListenAddress,
        responder: RadiusResponder,
        counters: RoamingCounters,
        log: RateLimitedLog,
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        offer: @escaping @Sendable (RoamingEvent) -> Bool
    ) async throws -> RadiusServer {
        let bootstrap = DatagramBootstrap(group: group)
            .channelOption(.datagramVectorReadMessageCount, value: Self.vector)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: Self.vector * Self.slot))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = RadiusHandler(responder: responder, counters: counters, log: log, offer: offer)
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
            }
        let channel: any Channel
        do {
            channel = try await bootstrap.bind(host: listen.host, port: listen.port).get()
        } catch {
            throw RoamingError(
                .listen,
                cause: "cannot listen for RADIUS accounting on \(listen): \(error)",
                remedy: "choose another address in [radius] listen, or stop the server that has it"
            )
        }
        await Self.enlargeBuffer(of: channel)
        return RadiusServer(channel: channel)
    }

    /// Where it listens.
    package var address: SocketAddress? { channel.localAddress }

    /// Serves until the task is cancelled or the socket fails, then closes it.
    package func runUntilCancelled() async {
        await withTaskCancellationHandler {
            try? await channel.closeFuture.get()
        } onCancel: {
            channel.close(promise: nil)
        }
    }

    /// Stops answering and closes the socket.
    package func stop() async {
        try? await channel.close()
    }

    /// Messages per system call, and bytes for each: a RADIUS packet and a byte to tell that it was longer.
    private static let vector = 32
    private static let slot = RadiusPacket.maximumLength + 1

    /// A burst must wait in the kernel rather than be lost: 8 MB where we may (CAP_NET_ADMIN), else what we get.
    private static func enlargeBuffer(of channel: any Channel) async {
        let size = 8 << 20
        #if os(Linux)
        let force = ChannelOptions.Types.SocketOption(level: .socket, name: .init(rawValue: 33))  // SO_RCVBUFFORCE
        if (try? await channel.setOption(force, value: size).get()) != nil { return }
        #endif
        try? await channel.setOption(.socketOption(.so_rcvbuf), value: .init(size)).get()
    }
}

/// Runs the responder on the channel's event loop.
private final class RadiusHandler: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias OutboundOut = AddressedEnvelope<ByteBuffer>

    private var responder: RadiusResponder
    private let counters: RoamingCounters
    private let log: RateLimitedLog
    private let offer: @Sendable (RoamingEvent) -> Bool

    init(
        responder: RadiusResponder,
        counters: RoamingCounters,
        log: RateLimitedLog,
        offer: @escaping @Sendable (RoamingEvent) -> Bool
    ) {
        self.responder = responder
        self.counters = counters
        self.log = log
        self.offer = offer
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        let now = WallClock.now
        counters.add(.radiusReceived)
        switch responder.judge(envelope.data, from: envelope.remoteAddress, now: now) {
        case .ignore(let counter):
            counters.add(counter)
            log.warning("ignored a RADIUS datagram", counter, ["peer": "\(envelope.remoteAddress)"])
        case .answer(let bytes, let counter):
            counters.add(counter)
            answer(bytes, to: envelope.remoteAddress, context: context)
        case .deliver(let event, let bytes, let key):
            guard offer(event) else {
                counters.add(.radiusOverload)
                log.warning("too many roaming events, leaving RADIUS requests unanswered", .radiusOverload)
                return
            }
            responder.accepted(key, now: now)
            counters.add(.radiusAccepted)
            answer(bytes, to: envelope.remoteAddress, context: context)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        context.flush()
    }

    /// A datagram socket reports errors of single messages (ICMP unreachable); they do not end the server.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        counters.add(.radiusMalformed)
        log.warning("RADIUS socket error", .radiusMalformed, ["error": "\(error)"])
    }

    private func answer(_ bytes: [UInt8], to peer: SocketAddress, context: ChannelHandlerContext) {
        // What does not go out at once is lost, as datagrams are, rather than kept: the peer repeats its request.
        guard context.channel.isWritable else { return }
        let buffer = context.channel.allocator.buffer(bytes: bytes)
        context.write(wrapOutboundOut(AddressedEnvelope(remoteAddress: peer, data: buffer)), promise: nil)
    }
}
