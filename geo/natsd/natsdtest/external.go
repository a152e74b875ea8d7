package natsdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Papers are PEM files of an authority, and of a certificate that it has signed,
// for servers at 127.0.0.1 and for clients.
type Papers struct{ CA, Cert, Key string }

// Issue makes papers that end with the test.
func Issue(t testing.TB) Papers {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
		return k
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, ownKey := key(), key()
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	own := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "own"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	ownDER, err := x509.CreateCertificate(rand.Reader, own, ca, &ownKey.PublicKey, caKey)
	must(err)
	keyDER, err := x509.MarshalECPrivateKey(ownKey)
	must(err)
	return Papers{write("ca.pem", "CERTIFICATE", caDER), write("cert.pem", "CERTIFICATE", ownDER), write("key.pem", "EC PRIVATE KEY", keyDER)}
}

// External starts a server as somebody else might run it: not by natsd, with
// JetStream, a user called atoll and a password, and TLS on both sides if there are
// papers. It returns its address.
func External(t testing.TB, password string, papers *Papers) (addr string) {
	t.Helper()
	opts := &server.Options{Username: "atoll", Password: password}
	if papers != nil {
		cert, err := tls.LoadX509KeyPair(papers.Cert, papers.Key)
		if err != nil {
			t.Fatal(err)
		}
		ca, err := os.ReadFile(papers.CA)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		opts.TLS, opts.TLSVerify, opts.TLSTimeout = true, true, 5
		opts.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	}
	return external(t, opts)
}

// ExternalWith starts one with what a configuration file says about who may do what.
func ExternalWith(t testing.TB, conf string) (addr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats-server.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return external(t, opts)
}

func external(t testing.TB, opts *server.Options) (addr string) {
	t.Helper()
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	opts.JetStream, opts.StoreDir, opts.MaxPayload = true, t.TempDir(), 16<<20
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the external nats server does not start")
	}
	return s.Addr().String()
}
