import CSeccomp
import Glibc
import LinuxSystem
import Testing

@testable import Isolation

@Suite struct SeccompFilterTests {
    private let filter: FilterInterpreter
    private let architecture = seccomp_arch_native()
    private let allow: UInt32 = 0x7fff_0000

    init() throws {
        filter = FilterInterpreter(try SeccompFilter().program)
    }

    private func number(_ name: String) -> UInt32? {
        let number = seccomp_syscall_resolve_name(name)
        return number < 0 ? nil : UInt32(number)
    }

    private func denied(_ code: Int32) -> UInt32 { 0x0005_0000 | UInt32(code) }

    private func verdict(_ name: String, _ arguments: UInt64...) throws -> UInt32? {
        filter.verdict(try #require(number(name)), architecture: architecture, arguments)
    }

    @Test func `every call on the list is allowed`() {
        for name in SystemCallPolicy.allowed {
            guard let number = number(name) else { continue }
            #expect(filter.verdict(number, architecture: architecture, [0, 4096]) == allow, "\(name)")
        }
        #expect(filter.verdict(452, architecture: architecture) == allow)
    }

    @Test func `every call that is to look absent answers ENOSYS`() throws {
        for name in SystemCallPolicy.absent { #expect(try verdict(name) == denied(ENOSYS), "\(name)") }
        for number: UInt32 in [451, 453, 462, 500, 100_000, 0x4000_0027, .max] {
            #expect(filter.verdict(number, architecture: architecture) == denied(ENOSYS), "\(number)")
        }
    }

    @Test func `every other known call answers EPERM`() {
        for name in SystemCallPolicy.denied {
            guard let number = number(name) else { continue }
            #expect(filter.verdict(number, architecture: architecture) == denied(EPERM), "\(name)")
        }
    }

    @Test func `each call has one answer`() {
        let lists = [SystemCallPolicy.allowed, SystemCallPolicy.absent, SystemCallPolicy.denied]
        let names = lists.flatMap { $0 }
        #expect(Set(names).count == names.count)
    }

    @Test func `mremap of no page is refused, however it is put`() throws {
        let page: UInt64 = 4096
        for length in [0, .max, .max - page + 2] {
            #expect(try verdict("mremap", page, length, page, 1) == denied(EINVAL), "\(length)")
        }
        for length in [1, page, page << 32, 1 << 32, 0xffff_ffff, .max - page + 1, 0xffff_f001] {
            #expect(try verdict("mremap", page, length, page, 1) == allow, "\(length)")
        }
    }

    @Test func `namespaces cannot be made by any flag or mixture`() throws {
        for bit in 0..<32 {
            let flag = UInt64(1) << UInt64(bit)
            let isNamespace = SystemCallPolicy.cloneNamespaces & flag != 0
            #expect(try verdict("clone", flag | 17) == (isNamespace ? denied(EPERM) : allow), "clone, bit \(bit)")
            let isUnshared = SystemCallPolicy.unshareNamespaces & flag != 0
            #expect(try verdict("unshare", flag) == (isUnshared ? denied(EPERM) : allow), "unshare, bit \(bit)")
        }
        // The kernel looks at the lower half only.
        #expect(try verdict("clone", 0xffff_ffff_1000_0011) == denied(EPERM))
    }

    @Test func `sockets are of families and protocols that can be moved`() throws {
        #expect(try verdict("socket", UInt64(AF_UNIX), 5, 0) == allow)
        #expect(try verdict("socket", UInt64(AF_INET), 1 | 0x80000, 6) == allow)
        #expect(try verdict("socket", UInt64(AF_INET6), 2 | 0x800, 0) == allow)
        #expect(try verdict("socket", UInt64(AF_NETLINK), 3, 0) == allow)
        #expect(try verdict("socket", UInt64(AF_NETLINK), 3, 12) == denied(EPERM))
        #expect(try verdict("socket", UInt64(AF_INET), 3, 1) == denied(EPERM))
        #expect(try verdict("socket", UInt64(AF_INET), 2, 1) == denied(EPERM))
        for family: UInt64 in [0, 3, 5, 15, 17, 29, 31, 38, 40, 44, 45] {
            #expect(try verdict("socket", family, 1, 0) == denied(EPERM), "family \(family)")
        }
        // What lies in the upper half of a register is none of the kernel's business.
        #expect(try verdict("socket", 0xdead_0000_0000_0000 | UInt64(AF_UNIX), 1, 0) == allow)
        #expect(try verdict("socket", 0xdead_0000_0000_0000 | 40, 1, 0) == denied(EPERM))
    }

    @Test func `filters can be added but not a listener`() throws {
        #expect(try verdict("seccomp", 1, 0) == allow)
        #expect(try verdict("seccomp", 1, 1) == allow)
        #expect(try verdict("seccomp", 1, 8) == denied(EPERM))
        #expect(try verdict("personality", 0x20000) == allow)
        #expect(try verdict("personality", 0x0400000) == denied(EPERM))
    }

    @Test func `calls of another architecture look absent`() {
        for number: UInt32 in [1, 20, 120] {
            #expect(filter.verdict(number, architecture: 0x4000_0003) == denied(ENOSYS))
        }
    }
}
