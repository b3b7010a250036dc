import Logging
import NIOCore
import NIOPosix

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Follows one hostapd control socket: attaches, and attaches again whenever hostapd was restarted.
package struct HostapdSource: Sendable {
    /// hostapd's socket, such as `/run/hostapd/wlan0`.
    package var path: String
    /// Name of the access point; nil asks hostapd for its BSSID.
    package var accessPoint: String?
    /// Whether to ask for the EAP identity of each station.
    package var asksIdentity = true
    /// Where our own end of the socket is made; hostapd must be able to reach it.
    package var directory: String
    /// How long to wait before attaching again.
    package var retry: Duration = .seconds(1)

    package init(path: String, accessPoint: String? = nil, asksIdentity: Bool = true, directory: String) {
        self.path = path
        self.accessPoint = accessPoint
        self.asksIdentity = asksIdentity
        self.directory = directory
    }

    /// Runs until the task is cancelled.
    ///
    /// An absent hostapd is not an error: it may come.
    package func run(
        counters: RoamingCounters,
        log: RateLimitedLog,
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        offer: @escaping @Sendable (RoamingEvent) -> Bool
    ) async {
        var stations: Set<MACAddress> = []
        while !Task.isCancelled {
            do {
                stations = try await follow(stations, counters, log, group, offer)
            } catch is CancellationError {
                return
            } catch {
                log.warning("no hostapd to attach to", .hostapdLost, ["socket": "\(path)", "error": "\(error)"])
            }
            try? await Task.sleep(for: retry)
        }
    }

    /// One session, from bind to loss; returns the stations that it leaves behind.
    private func follow(
        _ stations: Set<MACAddress>,
        _ counters: RoamingCounters,
        _ log: RateLimitedLog,
        _ group: any EventLoopGroup,
        _ offer: @escaping @Sendable (RoamingEvent) -> Bool
    ) async throws -> Set<MACAddress> {
        guard let identity = SocketIdentity(path: path) else { return stations }
        let own = "\(directory)/hostapd-\(getpid())-\(UInt32.random(in: 0 ... .max)).sock"
        defer { unlink(own) }
        let session = HostapdSession(
            accessPoint: accessPoint,
            nas: path,
            stations: stations,
            asksIdentity: asksIdentity,
            now: WallClock.now
        )
        let peer = try SocketAddress(unixDomainSocketPath: path)
        let left = group.any().makePromise(of: Set<MACAddress>.self)
        let channel: any Channel
        do {
            channel = try await DatagramBootstrap(group: left.futureResult.eventLoop)
                .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: Self.slot))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let handler = HostapdHandler(session, peer, identity, counters, log, offer, left)
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                }
                .bind(unixDomainSocketPath: own).get()
        } catch {
            left.fail(error)
            throw error
        }
        return try await withTaskCancellationHandler {
            try await left.futureResult.get()
        } onCancel: {
            channel.close(promise: nil)
        }
    }

    private static let slot = HostapdSession.maximumMessage + 1
}

/// What tells a socket file from the one that a restarted hostapd puts in its place.
struct SocketIdentity: Sendable, Hashable {
    let path: String
    private let device: UInt64
    private let inode: UInt64
    private let changed: Int

    /// Looks at the file; nil where there is none.
    init?(path: String) {
        var info = stat()
        guard stat(path, &info) == 0 else { return nil }
        self.path = path
        device = UInt64(info.st_dev)
        inode = UInt64(info.st_ino)
        changed = Int(info.st_ctim.tv_sec) &* 1_000_000_000 &+ Int(info.st_ctim.tv_nsec)
    }

    /// Whether the same socket is still there.
    var holds: Bool { SocketIdentity(path: path) == self }
}

/// Runs a session on the event loop of its channel.
private final class HostapdHandler: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias OutboundOut = AddressedEnvelope<ByteBuffer>

    private var session: HostapdSession
    private let peer: SocketAddress
    private let identity: SocketIdentity
    private let counters: RoamingCounters
    private let log: RateLimitedLog
    private let offer: @Sendable (RoamingEvent) -> Bool
    private let left: EventLoopPromise<Set<MACAddress>>
    private var ticks: RepeatedTask?

    init(
        _ session: HostapdSession,
        _ peer: SocketAddress,
        _ identity: SocketIdentity,
        _ counters: RoamingCounters,
        _ log: RateLimitedLog,
        _ offer: @escaping @Sendable (RoamingEvent) -> Bool,
        _ left: EventLoopPromise<Set<MACAddress>>
    ) {
        self.session = session
        self.peer = peer
        self.identity = identity
        self.counters = counters
        self.log = log
        self.offer = offer
        self.left = left
    }

    func channelActive(context: ChannelHandlerContext) {
        perform(session.start(now: WallClock.now), context: context)
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        ticks = context.eventLoop.scheduleRepeatedTask(initialDelay: .milliseconds(500), delay: .milliseconds(500)) {
            _ in
            let (handler, context) = bound.value
            handler.tick(context: context)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        ticks?.cancel()
        perform(session.end(), context: context)
        left.succeed(session.stations)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        // Anybody who may write to our socket's directory could send; only hostapd is believed.
        guard envelope.remoteAddress == peer else {
            counters.add(.hostapdMalformed)
            return
        }
        perform(session.receive(Array(envelope.data.readableBytesView), now: WallClock.now), context: context)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        log.warning("lost hostapd", .hostapdLost, ["socket": "\(identity.path)", "error": "\(error)"])
        context.close(promise: nil)
    }

    private func tick(context: ChannelHandlerContext) {
        perform(identity.holds ? session.tick(now: WallClock.now) : session.end(), context: context)
    }

    private func perform(_ effects: [HostapdSession.Effect], context: ChannelHandlerContext) {
        for effect in effects {
            switch effect {
            case .send(let command):
                let buffer = context.channel.allocator.buffer(string: command)
                let envelope = AddressedEnvelope(remoteAddress: peer, data: buffer)
                context.writeAndFlush(wrapOutboundOut(envelope), promise: nil)
            case .event(let event):
                guard !offer(event) else { continue }
                counters.add(.hostapdOverload)
                log.warning("too many roaming events, dropping those of hostapd", .hostapdOverload)
            case .count(let counter):
                counters.add(counter)
                if counter == .hostapdMalformed {
                    log.warning("ignored a message of hostapd", counter, ["socket": "\(identity.path)"])
                }
            case .attached:
                log.info("attached to hostapd", ["socket": "\(identity.path)"])
            case .lost:
                context.close(promise: nil)
            }
        }
    }
}
