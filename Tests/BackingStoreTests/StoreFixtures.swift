import CPageStore
import Glibc
import LinuxSystem

@testable import BackingStore

/// A generator with a seed, so that a failing run can be repeated.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) {
        state = seed &* 2_685_821_657_736_338_717 | 1
    }

    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 2_685_821_657_736_338_717
    }
}

/// Pages of the kinds that memory holds: zero, text-like, random, almost equal to another.
func makePage(_ generator: inout SeededGenerator) -> [UInt8] {
    var page = [UInt8](repeating: 0, count: PageStore.pageSize)
    switch Int.random(in: 0..<6, using: &generator) {
    case 0: break
    case 1, 2:
        for i in page.indices { page[i] = UInt8.random(in: 0...255, using: &generator) }
    case 3:
        let fill = UInt8.random(in: 1...4, using: &generator)
        for i in page.indices { page[i] = fill }
    default:
        for i in stride(from: 0, to: 4096, by: 8) { page[i] = UInt8.random(in: 0...31, using: &generator) }
    }
    return page
}

/// What the store must hold, as plainly as can be.
struct StoreModel {
    var pages: [UInt64: [UInt8]] = [:]
    var committed: [UInt64: [UInt8]] = [:]
    var epoch: UInt64 = 0

    mutating func commit(_ epoch: UInt64) {
        committed = pages
        self.epoch = epoch
    }
}

/// A directory that goes away with the fixture.
final class ScratchDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/smirun-backing-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SyscallError("mkdtemp") }
        path = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    func file(_ name: String) -> String { path + "/" + name }

    deinit {
        try? Directories.removeTree(path)
    }
}

extension PageStore {
    /// A new store on a recorded disk.
    static func create(on disk: RecordedDisk, seed: UInt64 = 7) throws -> PageStore {
        var error = smi_ps_error()
        guard let handle = smi_ps_create(disk.io, seed, 0, &error) else { throw PageStoreError(error, path: nil) }
        return PageStore(handle: handle, path: nil)
    }

    /// Opens what a disk holds.
    static func open(on disk: RecordedDisk, readOnly: Bool = false) throws -> PageStore {
        var error = smi_ps_error()
        guard let handle = smi_ps_open(disk.io, readOnly ? SMI_PS_READ_ONLY.rawValue : 0, &error) else {
            throw PageStoreError(error, path: nil)
        }
        return PageStore(handle: handle, path: nil)
    }

    /// Everything the store holds, read page by page.
    func everything() throws -> [UInt64: [UInt8]] {
        var result: [UInt64: [UInt8]] = [:]
        for page in pages(limit: 1 << 16) { result[page] = try read(page) }
        return result
    }
}
