import BackingStore
import Glibc
import LinuxSystem
import Synchronization

/// The memory of one SMI as a host holds it that does not run it: backing files, and the last epoch they hold whole.
///
/// Its calls may block.
// SAFETY: messages come one after the other, and under a lock, as pages may still come while others are being served.
package final class MemoryReplica: @unchecked Sendable {
    /// Most pages of a process that come in first.
    package static let hotLimit = 2048

    private let directory: EpochDirectory
    private(set) package var stores: [Int32: PageStore] = [:]
    /// The last epoch that is held whole, 0 for none.
    private(set) package var epoch: UInt64
    /// Pages that processes will want first, as the last cut said.
    private(set) package var hot: [Int32: [UInt64]] = [:]

    /// Pages of the last cut that belong into CRIU's images.
    private(set) package var imaged: [Int32: [Range<UInt64>]] = [:]

    /// Shared memory as it was in the last round, by the number of its backing file.
    private(set) package var shared: [Int32: SharedShape] = [:]
    /// Shared memory that is made ready for a restore, once that is to be expected.
    private(set) package var fills: SharedFills?
    /// The same of private memory, in the process that restored ones will inherit it from.
    private(set) package var inherited: InheritedMemory?
    /// Pages whose newest version of the last epoch has not come yet.
    private var late: [Int32: Set<UInt64>] = [:]
    /// Called with late pages that are in their backing file now.
    private var onArrival: @Sendable (Int32, [UInt64]) -> Void = { _, _ in }
    private let lock = Mutex(())

    private struct Round {
        let epoch: UInt64
        let quick: Bool
        var late: [Int32: [Range<UInt64>]] = [:]
        var shared: [Int32: SharedShape] = [:]
        /// Why the rest of the round is not taken in.
        var refusal: String?
    }
    private var round: Round?

    /// Opens what a directory holds; a damaged backing file is given up, and with it the epoch.
    package init(directory path: String) throws {
        directory = try EpochDirectory(path)
        epoch = directory.epoch
        shared = directory.shared(of: epoch)
        for inner in directory.processes {
            do {
                stores[inner] = try PageStore.open(at: MemoryFlush.path(of: inner, in: path))
            } catch is PageStoreError {
                unlink(MemoryFlush.path(of: inner, in: path))
                epoch = 0
            }
        }
        late = LateFile(directory).pages(of: epoch).filter { inner, _ in
            // A file that is further than the others has them.
            stores[inner].map { $0.statistics.epoch <= epoch } ?? true
        }.mapValues { Set($0.joined()) }
    }

    /// What it holds, for whoever serves it from now on; `onArrival` gets the late pages that come.
    package func serve(onArrival: @escaping @Sendable (Int32, [UInt64]) -> Void) -> ServedReplica {
        lock.withLock { _ in
            self.onArrival = onArrival
            return ServedReplica(stores: stores, hot: hot, imaged: imaged, late: late)
        }
    }

    /// Pages that it lacks of its last epoch.
    package var lacking: [Int32: [Range<UInt64>]] {
        lock.withLock { _ in late.mapValues { normalized($0.map { $0..<$0 + 1 }) } }
    }

    /// Whether it lacks pages of its last epoch.
    package var isLacking: Bool { lock.withLock { _ in !late.isEmpty } }

    /// An epoch whose late pages were given up: nothing may be restored from it.
    private(set) package var unusableEpoch: UInt64?

    /// Its last epoch is what both sides hold, and no more will come to it: it is not here that the SMI goes on.
    package func giveUpLate() {
        lock.withLock { _ in
            guard !late.isEmpty else { return }
            late = [:]
            unusableEpoch = epoch
            round = nil
            rollBack()
            LateFile(directory).remove()
        }
    }

    /// Takes in one message of the owner; returns what it is to be told.
    package func take(_ message: EpochMessage) throws -> EpochMessage? {
        try lock.withLock { _ in try takeNow(message) }
    }

    private func takeNow(_ message: EpochMessage) throws -> EpochMessage? {
        switch message {
        case .hello:
            dropNow()
            return .welcome(epoch: epoch)
        case .begin(let epoch, let quick):
            dropNow()
            round = Round(epoch: epoch, quick: quick)
            if late.isEmpty { imaged = [:] }
            if epoch < self.epoch { round?.refusal = "epoch \(epoch) is older than what is here" }
        case .frame(let process, let parent, let bytes):
            if !late.isEmpty { return try takeLate(process, bytes) }
            try change(process) { store in
                let parent = parent.flatMap { stores[$0] }
                try bytes.withUnsafeBytes { _ = try PageDelta.apply($0, to: store, parent: parent) }
            }
            // In a freeze nobody listens.
            return round.flatMap { $0.quick ? nil : .took(epoch: $0.epoch) }
        case .present(let process, let pages):
            try change(process) { try $0.retain(pages) }
        case .hot(let process, let pages):
            hot[process] = Array(pages.joined().prefix(Self.hotLimit))
        case .imaged(let process, let pages):
            imaged[process] = pages
        case .late(let process, let pages):
            round?.late[process] = pages
        case .shared(let number, let shape):
            guard SharedNumber.isShared(number) else {
                throw EpochMessageError(description: "\(number) is the number of a process")
            }
            round?.shared[number] = shape
        case .end(let epoch, let processes):
            return try finish(epoch, processes)
        case .welcome, .whole, .behind, .forget, .wanted, .took:
            throw EpochMessageError(description: "a replica does not take this message")
        }
        return nil
    }

    private func change(_ process: Int32, _ body: (PageStore) throws -> Void) throws {
        guard round != nil else { throw EpochMessageError(description: "pages outside of an epoch") }
        guard round?.refusal == nil else { return }
        do {
            try body(try store(of: process))
        } catch let error as PageStoreError {
            round?.refusal = "process \(process): \(error)"
            if error.code == .corrupt || error.code == .truncated { try giveUp(process) }
            // What is here is not the epoch that it was taken for: everything is asked for again.
            if error.code == .mismatch { try forgetEpoch() }
        }
    }

    /// Late pages: others are being served meanwhile, so that nothing can be rolled back.
    private func takeLate(_ process: Int32, _ bytes: [UInt8]) throws -> EpochMessage {
        guard let round, round.epoch == epoch + 1 else {
            throw EpochMessageError(description: "late pages of another epoch than the one that lacks them")
        }
        let store = try store(of: process)
        let pages = try bytes.withUnsafeBytes { try PageDelta.apply($0, to: store) }
        late[process]?.subtract(pages)
        onArrival(process, pages)
        return .took(epoch: round.epoch)
    }

    private func store(of process: Int32) throws -> PageStore {
        if let store = stores[process] { return store }
        let store = try PageStore.create(at: MemoryFlush.path(of: process, in: directory.path))
        stores[process] = store
        return store
    }

    /// A backing file that cannot be used any more: its pages are asked for again.
    private func giveUp(_ process: Int32) throws {
        stores[process] = nil
        unlink(MemoryFlush.path(of: process, in: directory.path))
        try forgetEpoch()
    }

    private func forgetEpoch() throws {
        epoch = 0
        try directory.note(epoch: 0)
    }

    private func finish(_ number: UInt64, _ processes: [Int32]) throws -> EpochMessage {
        guard let round, round.epoch == number else {
            throw EpochMessageError(description: "the end of an epoch that has not begun")
        }
        // It is over, whatever comes of it.
        self.round = nil
        if let refusal = round.refusal {
            rollBack()
            return .behind(epoch: epoch, cause: refusal)
        }
        for process in processes {
            let store = try store(of: process)
            let statistics = store.statistics
            guard statistics.isPending || statistics.epoch == 0 else { continue }
            try store.commit(epoch: number, durability: .process, quick: round.quick)
        }
        // Late pages come from processes that stand still: what they do not name is there all the same.
        for process in stores.keys where late.isEmpty && !processes.contains(process) {
            stores[process] = nil
            unlink(MemoryFlush.path(of: process, in: directory.path))
        }
        let file = LateFile(directory)
        if !round.late.isEmpty { try file.write(round.late, of: number) }
        // Late pages are of processes only: shared memory is as the epoch before has it.
        if late.isEmpty { shared = round.shared }
        if round.quick || !late.isEmpty { try directory.note(shared: shared, of: number) }
        epoch = number
        try directory.note(epoch: number)
        let isSupplied = !late.isEmpty
        late = round.late.mapValues { Set($0.joined()) }
        if late.isEmpty { file.remove() }
        if !isSupplied { fill(grows: !round.quick) }
        return .whole(epoch: number)
    }

    /// Sets whether memory is kept ready for a restore on this host: filled now, and with every epoch; private memory in
    /// the process that the restored ones inherit from.
    package func keepFilled(_ isKept: Bool, for heirs: (any InheritingProcess)? = nil) {
        let isAnother = isKept && inherited?.isFor(heirs) == false
        guard isKept != (fills != nil) || isAnother else { return }
        if isKept != (fills != nil) { fills = isKept ? SharedFills() : nil }
        inherited = isKept ? heirs.map { InheritedMemory($0) } : nil
        fill(grows: true)
    }

    private func fill(grows: Bool) {
        // In the midst of a round the files hold what may yet be rolled back.
        guard round == nil else { return }
        fills?.fill(shared, from: stores, epoch: epoch)
        guard let inherited else { return }
        var except = imaged
        for (process, pages) in late {
            except[process] = normalized(except[process, default: []] + pages.map { $0..<$0 + 1 })
        }
        let source = InheritedMemory.Source(stores: stores, hot: hot, except: except)
        inherited.fill(from: source, epoch: epoch, grows: grows)
    }

    /// Forgets a round that has not come to its end.
    package func drop() {
        lock.withLock { _ in dropNow() }
    }

    private func dropNow() {
        guard round != nil else { return }
        round = nil
        // What has come late may be in use already.
        if late.isEmpty { rollBack() }
    }

    private func rollBack() {
        for (process, store) in stores {
            do {
                try store.rollback()
            } catch {
                try? giveUp(process)
            }
        }
    }
}

/// The directory with an SMI's backing files, `<pid>.pages` and `<number>.shared`, and a file that says which epoch they hold whole.
package struct EpochDirectory: Sendable {
    package let path: String

    /// Takes a directory, made where it is missing.
    package init(_ path: String) throws(SyscallError) {
        self.path = path
        try Directories.make(path)
    }

    /// The epoch that was noted last; 0 for none.
    package var epoch: UInt64 {
        guard let text = try? FileContents.string(of: path + "/epoch") else { return 0 }
        return UInt64(text.prefix { $0.isNumber }) ?? 0
    }

    /// Notes that every backing file holds an epoch.
    package func note(epoch: UInt64) throws(SyscallError) {
        try FileContents.replace(path + "/epoch", with: Array("\(epoch)\n".utf8))
    }

    /// What has a backing file: processes, by their number inside the sandbox, and shared memory.
    package var processes: [Int32] {
        Directories.entries(of: path).compactMap { name in
            if name.hasSuffix(".shared") { return Int32(name.dropLast(7)).map { $0 + SharedNumber.first } }
            return name.hasSuffix(".pages") ? Int32(name.dropLast(6)) : nil
        }
    }

    /// Notes which shared memory there is in the epoch of a cut; no file says that there is none.
    func note(shared: [Int32: SharedShape], of epoch: UInt64) throws(SyscallError) {
        guard !shared.isEmpty else {
            unlink(path + "/shared")
            return
        }
        var text = "\(epoch)\n"
        for (number, shape) in shared {
            text += "\(number) \(shape.object.kind.rawValue) \(shape.object.inode) \(shape.size)\n"
        }
        try FileContents.replace(path + "/shared", with: Array(text.utf8))
    }

    /// What was noted of the shared memory of an epoch, without the names.
    func shared(of epoch: UInt64) -> [Int32: SharedShape] {
        let text = (try? FileContents.string(of: path + "/shared")) ?? ""
        let lines = text.split(separator: "\n").map { $0.split(separator: " ").compactMap { UInt64($0) } }
        guard lines.first == [epoch] else { return [:] }
        return Dictionary(
            lines.dropFirst().compactMap { line in
                guard line.count == 4, let number = Int32(exactly: line[0]), SharedNumber.isShared(number),
                    let kind = UInt8(exactly: line[1]).flatMap({ SharedObject.Kind(rawValue: $0) })
                else { return nil }
                let object = SharedObject(kind: kind, inode: line[2])
                return (number, SharedShape(object: object, size: line[3], name: ""))
            }
        ) { first, _ in first }
    }

    /// Deletes everything.
    package func remove() throws(SyscallError) {
        try Directories.removeTree(path)
    }
}
